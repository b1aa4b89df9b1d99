"""The facts of English that the judge uses: word lists and patterns, with hardly any code.

Patterns are applied to prompts in lower case.
"""

import re
from collections.abc import Mapping
from itertools import combinations

# Numbers

CARDINALS: Mapping[str, int] = dict(
    zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13), strict=True)
)
NUMBER_WORDS: Mapping[str, int] = {
    **CARDINALS,
    "pair": 2,
    "couple": 2,
    "both": 2,
    "twin": 2,
    "twins": 2,
    "trio": 3,
    "dozen": 12,
}
IRREGULAR_PLURALS: Mapping[str, str] = dict(
    pair.split(":")
    for pair in "man:men woman:women child:children person:people mouse:mice wolf:wolves knife:knives leaf:leaves "
    "goose:geese foot:feet policeman:policemen fireman:firemen sheep:sheep fish:fish deer:deer".split()
)
EXACTLY_ONE = re.compile(r"\b(?:exactly one|only one|just one|an? single|single)\b")
GROUP_WORD = re.compile(  # words that make a number of things unclear
    r"\b(?:group|herd|flock|pack|bunch|couple|pair|several|many|some|few|types?|variety|number|lots?|set|rows?)\b"
)
SINGULAR_NOUN = (
    re.compile(  # "a red tulip in …": an article, at most two words, the noun, and a word that can follow a noun
        r"\ban? (?:[a-z]+ ){0,2}?([a-z]{3,})(?=$|[,.;]| (?:in|on|at|with|and|of|by|near|behind|under|next|is|are|"
        r"standing|sitting|drifting|lying|that|which|who|from|over)\b)"
    )
)
NOT_A_COUNT = re.compile(  # numbers that count nothing: 4k, 50 mm, 16:9, f/1.8, 1 6 6 7, 1984
    r"\b\d+ ?(?:k|d|mm|cm|p|x|fps|bit|px|%)\b|(?<!\d)\d++[/:.]\d+|\b[a-z]+/\d\S*|(?:\b\d\b ){2,}\d\b|\b\d{3,}\b|%"
)

# Colours

COLOURS: Mapping[str, str] = {  # word: the name under which it is compared
    word: words.split("/")[0]
    for words in (
        "red/reddish",
        "orange",
        "yellow/yellowish",
        "green/greenish",
        "blue/bluish",
        "purple/violet",
        "pink",
        "brown",
        "black",
        "white",
        "gray/grey",
        "golden/gold",
        "silver",
        "beige",
        "turquoise/teal",
        "maroon",
        "cyan",
        "magenta",
        "coral",
        "lavender",
        "mauve",
    )
    for word in words.split("/")
}
COLOUR_NAMED_THINGS = frozenset(("coral", "lavender"))  # colours named after a thing: "red coral" means the thing

# Negation and opposites

NEGATION = re.compile(  # "hatless" means that there is no hat; "seamless" removes nothing visible
    r"\b(?:no|not|without|none|never|cannot|nobody|nothing|lacks?|lacking|absent|absence|barefoot|\w+n't|"
    r"(?!seam|wire|time|end|count|flaw|price|home|tire|un)\w{3,}less)\b"
)
ABSENT_THING = re.compile(r"\b(?:no|without|lacking)\s+(?:any\s+|an?\s+|the\s+)?([a-z]+?)s?\b")


def exclusive_pairs(groups: str) -> list[tuple[frozenset[str], frozenset[str]]]:
    """Every pair of sides that exclude each other, from text like "rainy/stormy:foggy:sunny wet:dry".

    Groups are separated by spaces, sides by colons, and words with the same meaning by slashes. A narrow group may
    repeat words of a wider one: it still applies when a prompt has words of both sides of the wider group.
    """
    sides = ([frozenset(side.split("/")) for side in group.split(":")] for group in groups.split())
    return [pair for group in sides for pair in combinations(group, 2)]


OPPOSITES = exclusive_pairs("""
    daytime/daylight:night/nighttime morning:evening/night sunrise:sunset sunny:rainy/cloudy/snowy
    open/opened:closed/shut wet:dry empty:full/filled young:old/elderly big/large/huge/giant:small/tiny/little
    daytime/daylight/dawn/sunrise/daybreak/morning/noon/midday/afternoon:night/nighttime/midnight
    dawn/sunrise/daybreak/morning:noon/midday/afternoon:dusk/sunset/nightfall/evening dusk:night/nighttime
    dusk/sunset/evening:midnight indoors/indoor:outdoors/outdoor inside:outside asleep/sleeping:awake clean:dirty
    happy/smiling:sad/crying/frowning standing:sitting/seated/lying hot:cold/icy
    summer:winter sharp:blurry/blurred dark:bright dress/dresses:skirt/skirts gloves:mittens ancient/old:modern
    rainy/rain/raining/stormy:foggy/fog/misty/mist/hazy:cloudy/overcast:snowy/snow/snowing:sunny thick:thin
    wooden:metal/plastic/glass/stone rough:smooth soft:hard wide:narrow transparent/translucent:opaque
    male/man/men/boy/boys:female/woman/women/girl/girls crowded:deserted/empty burning/lit:extinguished
    vertical/vertically:horizontal/horizontally colorful/colourful:colorless/monochrome alive:dead
    arriving:leaving/departing complete/completed:incomplete visible:invisible
    alligator/alligators:crocodile/crocodiles
    stag/stags/buck/bucks:doe rooster/roosters:hen/hens stallion/stallions:mare/mares ram/rams:ewe/ewes
    boar/boars:sow/sows lion/lions:lioness/lionesses peacock/peacocks:peahen/peahens
    foal/foals/colt/colts/filly/mare/mares/stallion/stallions:calf/calves/heifer/heifers/bull/bulls
    puppy/puppies:kitten/kittens:lamb/lambs:fawn/fawns:piglet/piglets:duckling/ducklings:gosling/goslings
    leopard/leopards:tiger/tigers:lynx:jaguar/jaguars:panther/panthers:puma/pumas/cougar/cougars
    edible:inedible convex:concave symmetrical/symmetric:asymmetrical/asymmetric mature:immature active:inactive
    stalactite/stalactites:stalagmite/stalagmites ascending:descending converging:diverging waxing:waning
    typical:atypical masculine:feminine
    assembled:disassembled/dismantled connected:disconnected carnivorous/carnivore:herbivorous/herbivore
    ogre/ogres:goblin/goblins:gnome/gnomes:zombie/zombies:dwarf/dwarfs/dwarves:troll/trolls:wizard/wizards
""")

OPPOSITE_PREFIXES = (  # of the same stem: "finished" and "unfinished", "upstream" and "downstream"
    *(("", negation) for negation in ("un", "non", "mis", "anti", "counter")),
    *(("over", "under"), ("up", "down"), ("in", "out"), ("in", "ex"), ("in", "de"), ("ac", "de")),
    *(("hyper", "hypo"), ("homo", "hetero"), ("east", "west"), ("north", "south")),
)

# Signs: the words around them are the same

EMOTICON = re.compile(r"(?<!\w)(?:[:;]-?[()DOP]+|(?<![()])[()]++-?[:;])(?!\w)")
OPERATOR = re.compile(r"(?<!\w)(?:\d+|[a-z])(?: ?([<>]=?|!=|=) ?| ([+*/-]) )(?=(?:\d+|[a-z])(?!\w))")  # 5 > 3, a = b
FRACTION = re.compile(r"(?<![\w/.])\d+(?:/|' ?)\d+(?![\w/])")  # 3/4 and 5'6"
NEGATIVE = re.compile(r"(?:(?<!\S)[-−]|\bminus )(\d+)")
UNSIGNED = re.compile(r"(?<![\w.−-])(?<!\bminus )(\d+)")

CAPITAL_MEANINGS = frozenset(  # words that mean another thing with a capital letter inside a sentence
    """amazon apple august bath beetle china cork galaxy jaguar jersey job jordan march mercury mustang nice polish
    reading turkey windows""".split()
)
CAPITALISED = re.compile(r"(?<![.!?:\"“] )(?<=\s)[A-Z][a-z]+")

# Styles and media

STYLES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(rf"\b(?:{words})\b")
    for name, words in {
        "a photograph": r"photos?|photographs?|photograph(?:y|ed)|photorealistic|dslr|polaroid",
        "an oil painting": r"oil painting|oil on canvas|painted in oils?|in oils",
        "a watercolour": r"watercolou?rs?",
        "a painting": r"paintings?|acrylic|gouache|fresco",
        "a sketch": r"sketch(?:es|ed)?|charcoal|pencil drawing|pencil|line art",
        "a drawing": r"drawings?|hand[- ]drawn|drawn in (?:pencil|ink|crayon|charcoal)|doodle|crayon",
        "a cartoon": r"cartoons?|comic|comics",
        "anime": r"anime|manga",
        "a 3D render": r"3d render(?:ing)?|3d|render(?:ing|ed)?|octane|blender",
        "pixel art": r"pixel art|pixelart|8-?bit|16-?bit",
        "a statue": r"statues?|sculptures?",
        "a logo": r"logos?",
        "an icon": r"icons?|emojis?",
        "a sticker": r"stickers?(?= of)",
        "black and white": r"black(?:[- ]and[- ]| ?& ?)white (?:photo|picture|image|style|film|drawing)\w*|"
        r"in black (?:and|&) white(?! (?!of )\w)|b&w|monochrome|grayscale|greyscale",
        "origami": r"origami|papercraft",
        "embroidery": r"embroider(?:y|ed)|knitted|crochet(?:ed)?",
        "stained glass": r"stained glass",
        "clay": r"claymation|made of clay",
        "a poster": r"posters?",
        "a tattoo": r"tattoos?(?= of| design)",
        "a mosaic": r"mosaics?",
        "cyberpunk": r"cyberpunk",
        "steampunk": r"steampunk",
        "low-poly style": r"low[- ]poly",
        "a flat design": r"flat (?:icon|design|style|vector)",
        "ukiyo-e": r"ukiyo-?e|woodblock|woodcut",
        "engraving": r"engraving|etching|lithograph",
    }.items()
}
SPECIAL_STYLES = (  # (special, general): the special one may stand for the general one
    ("an oil painting", "a painting"),
    ("a watercolour", "a painting"),
    ("a sketch", "a drawing"),
    ("black and white", "a photograph"),
)
PHOTOGRAPH = "a photograph"  # what most people expect when a prompt names no style
MEDIA_WORDS = ("drawing", "painting", "rendering")  # when misspelt they look like verbs, not like rare words

# Animals

YOUNG_AND_GROWN = exclusive_pairs("""
    puppy/puppies/pup/pups:dog/dogs kitten/kittens:cat/cats foal/foals/colt/colts:horse/horses lamb/lambs:sheep
    calf/calves:cow/cows/bull/bulls duckling/ducklings:duck/ducks gosling/goslings:goose/geese
    chick/chicks:chicken/chickens/hen/hens piglet/piglets:pig/pigs fawn/fawns:deer tadpole/tadpoles:frog/frogs
""")
YOUNG_WORDS = frozenset("young baby little small tiny newborn infant juvenile".split())

# Places and relations

HEIGHTS: Mapping[str, str] = {  # preposition: the relation under which it is compared
    **dict.fromkeys("under below beneath underneath".split(), "under"),
    **dict.fromkeys("on onto atop above over".split(), "on or above"),
}
LEFT_OR_RIGHT = re.compile(r"\b(left|right)\b(?! (?:hand|handed|leg|arm|foot|eye|ear|paw|wing|now|there))")

# Words that are neither names nor nouns

NOT_NAMES = frozenset(  # often written with a capital letter inside a prompt
    "the this that these those there here his her its their and but with two three some one".split()
)
NOT_NOUNS = frozenset(  # words after a colour or preposition that do not name the thing meant
    """background a an the this that who which with without on in at of by to for from is are was beside near next
    behind before under above over below between against holding wearing standing sitting walking looking""".split()
)
MINOR_WORDS = frozenset(  # words that cannot be the main thing of a picture
    "a an the one two three four some photo picture image of there is are on in to with small large big".split()
)

# Lettering

LETTERING = (  # words that announce text to be read in the picture
    r"(?:say|says|saying|said|read|reads|reading|titled|entitled|called|named|labell?ed|label|spell|spells|spelling|"
    r"sign|signs|word|words|letter|letters|lettering|text|written|writing|inscription|inscribed|caption|slogan|title|"
    r"logo|printed|engraved)"
)

# Standing: a pose that goes without saying on the ground

GROUND = (  # where people and animals stand unless the prompt says otherwise; "a park bench" is no such place
    r"(?:(?:a|an|the|some|tall|high|deep|fresh|thick|white|green|dry|wet|snowy|grassy|sandy|muddy|rocky|dusty|busy|"
    r"empty|city|open|big|large|small|wide|narrow|top of an?|top of the) )*(?:snow|grass|hay|sand|mud|dirt|gravel|"
    r"ground|floor|field|meadow|pasture|lawn|garden|yard|park|forest|woods|jungle|desert|savanna|swamp|beach|shore|"
    r"coast|riverbank|hill|hilltop|hillside|mountain|cliff|rock|valley|street|road|sidewalk|pavement|path|trail|"
    r"corner|crosswalk|intersection|square|plaza|town|city|village|farm|barn|stable|pen|platform|stage|bridge|pier|"
    r"dock|porch|balcony|roof|rooftop|terrace|room|kitchen|hallway|corridor|doorway|door|gate|rain|fog|mist|"
    r"wind|storm|sun|sunlight|moonlight|shade|shadow|dark|line|row|circle|crowd)s?(?=$|[,.;:!?]| (?:and|with|in|on|"
    r"at|by|near|next|beside|behind|under|during|while|as|is|are|holding|wearing|looking)\b)"
)
BESIDE = r"(?:next to|beside|near|by|close to|adjacent to|in front of|behind|under|outside|among|between|against)"
STANDING = re.compile(rf"(?<![\w-])standing(?=$|,| {BESIDE} | (?:on|in|at) {GROUND})")
NOT_STANDING = re.compile(  # suggests that the subject does not simply stand: on a horse, at a desk, a baby
    rf"\b(?:on|in|into|at|atop|inside|aboard|astride)\b(?! front of | {GROUND})|"
    r"\b(?:last|only|still|left|half|sitting|sits?|seated|lying|lies|laying|kneeling|sleeping|riding|rides|hanging|"
    r"bab(?:y|ies)|infants?|riders?|cyclists?|beds?|blankets?|wheels?|desks?|tables?|computers?|laptops?|pianos?|"
    r"televisions?|tv|screens?)\b"
)
STANDING_WORD = "standing"

# Politeness and praise

REQUEST_PHRASE = re.compile(  # "paint a can" asks for a can, "a paint can" for a can of paint
    r"^(?:(?:please|can you|could you|i want|i would like|give me|show me|draw|create|generate|this is|there is|"
    r"there are|me|(?:paint|make)(?= (?:me|an?|the)\b)|(?:(?:an?|the) )?(?:image shows|(?:picture|image)s? "
    r"(?:of|showing))|please\?)[ ,]+)+"
)
PRAISE = frozenset(
    """highly detailed, very detailed, extremely detailed, intricate details, 4k, 8k, hd, uhd, high quality,
    best quality, masterpiece, sharp focus, trending on artstation, artstation, high resolution, award winning,
    professional, beautiful, stunning, please""".replace("\n    ", " ").split(", ")
)
INVISIBLE_WORDS = MINOR_WORDS | frozenset(  # change nothing visible, or are left to other rules and the networks
    " ".join(PRAISE).split()
    + """amazing gorgeous lovely nice perfect pretty little positioned placed located and under behind near by at
    beside above below next over group couple pair flock herd pack bunch several many some few lot set row dozen
    twelve photograph painting oil open""".split()
)

# Style, light and camera: words for how a picture is made, not for what it shows. The painter draws nothing for them

STYLE_WORDS = frozenset(
    """
    abstract absurdres acrylic action aerial aesthetic airbrush album ambient anatomy angle anime aperture artistic
    artistry artstation artwork artworks aspect atmosphere atmospheric aura award awarded backdrop background
    backlight backlit balanced banner baroque behance best blender blond blonde bloom blur blurred blurry bokeh bold
    border brunette brushstroke brushstrokes brushwork camera's candid canon canvas caption captured cel cgi
    cgsociety charcoal chiaroscuro chibi chromatic cinema cinematic clarity classic cleanly close-up closeup collage
    collection colorgraded colors colours comic comics commercial commission complementary complex composition
    concept contemporary contest contrast cover creative crisp cropped cubism cubist cyberpunk dall-e dappled deco
    depth design designed designer detail detailing details deviantart diffuse diffused diffusion documentary dof
    doodle drawn dribbble dslr duotone dutch dynamic edge editorial elaborate emblem engine engraving etching
    ethereal exhibition expert exposure expressionism expressive extreme fantasy fauvism featured female figurative
    film filter fine finely flare flawless focal focus focused foreground fps frame framed framing fresco fujifilm
    futurism futuristic gallery game gaussian ghibli glitch gloss glossy glow glowing gothic gouache gradient
    grading grain grainy graphic graphics grayscale greyscale grunge halftone hard hasselblad hdr headshot
    highlights highres horror hq hyper hyperdetailed hyperreal hyperrealism hyperrealistic iconic illuminated
    illumination illustrated illustrations imagery imax impasto impressionism impressionist infographic infrared ink
    inspired instagram intricate iso isometric jpeg jpg kawaii knitted kodak landscape layered layout leica lens
    lenses level lighting lightroom limited line lineart lines linocut lithograph logo lora lores lossless lowpoly
    luminous macro magazine magical male manga mapping masterful masterpieces material materials matte medium
    melancholic meme metallic midjourney midtones minimal minimalism minimalist minimalistic mockup mode model
    modern monochromatic monochrome mood moody mosaic motif motion movement movie multicolored muted mysterious
    mystical negative neon newest nikon noir noise nostalgic nouveau nsfw occlusion octane official oldest opaque
    optimized organic original ornament ornate outline outlined outlines overcast overexposed overlay page panorama
    panoramic papercraft parallax pastel pastels pattern patterns perfect perspective photobashing photographed
    photographer photographic photography photoreal photorealism photorealistic photoshop pixel pixelated pixels
    pixiv png polaroid polished popular portfolio portra portrait portraiture pose posed poser poses positive
    post-processing poster posters precise premium print printable printed printing prints procreate product
    production professional professionally profile prompt proportions quality radiosity rating ratio raw ray rays
    raytraced raytracing realism realist redshift reflection reflections reflective render rendered renders
    rendition resolution retouched retro reuters rim rococo romanticism rule safe sample samples saturated
    saturation scattering sci-fi score screen screencap screengrab screenshot sculpt seamless seed sepia series sfw
    shaded shader shaders shading shadow shadows shaped sharpness sheet shot shots shutter sigma silhouette sketch
    sketched sketches sketchy smoothness softbox solo sony space specular splash splatter stable standard steampunk
    stencil step steps stills stippling stock storybook stroke strokes studio stunningly stylised stylish stylistic
    stylize stylized subject sublime subsurface super superb superior surreal surrealism surrealist symbol symmetric
    symmetrical symmetry synthwave tag tags technicolor technique telephoto texture textured textures theme themed
    thermal thirds thumbnail tileable tiled tilt tilt-shift timeless tone toned tones top tracing traditional
    translucent transparent trend trending typographic typography ultra ultradetailed ultrahd ultrarealistic
    uncropped undertones unity unreal upscaled vaporwave vector velvia version vibe vibes vibrance vibrant victorian
    viewer viewpoint vignette vignetting vintage viral visible visual visually visuals vivid volumetric voxel vray
    wallpaper wallpapers watercolor watercolors watercolour watercolours watermark whimsical wide wide-angle
    widescreen winner winning woodblock woodcut zbrush zeiss zoom zoomed
    """.split()
)
STYLE_PHRASES = re.compile(  # phrases that name a thing without meaning it: "bird's eye view", "pencil sketch"
    r"\b(?:"
    r"(?:bird|worm|fish|bug|drone)s?(?:'s)?[ -]?eyes?(?: (?:view|lens|shot|perspective|angle))?"
    r"|(?:facing|looking (?:at|into)|in front of) the (?:camera|lens|viewer)|camera (?:angle|shot|view)s?"
    r"|teal and orange"
    r"|hand[ -](?:drawn|painted|made|crafted|lettered|colou?red)|(?:high|low)[ -]key|pop art"
    r"|(?:food|fashion|product|street|wildlife|nature|portrait|wedding|night|sports?|stock"
    r"|travel) photo(?:graphy|graph|s)?"
    r"|(?:limited|muted|warm|cold|cool|pastel|earthy?|vivid|bright|dark) palettes?"
    r"|eye[ -]level|eye[ -]catching|eye contact|eye[ -]candy"
    r"|(?:pen|pencil|crayon|chalk|charcoal|ink|marker|biro|paint|brush|needle)s?"
    r"(?: (?:and|&) (?:ink|pencil|paper|wash|watercolou?r))?"
    r" (?:line )?(?:drawing|sketch|sketche|art|artwork|illustration|style|work|stroke|texture|wash|outline)s?"
    r"|(?:pen|pencil|ink|charcoal|crayon) (?:and|&|on) (?:ink|paper|watercolou?r|canvas)"
    r"|(?:graphic|visual|light) novel|video[ -]?game (?:art|screenshot|style|cover|concept)s?"
    r"|(?:comic|story|sketch|picture|colou?ring|children'?s|kids'?|fairy ?tale|art)[ -]?(?:picture )?books?"
    r"(?: (?:style|illustration|page|cover|panel|art))*"
    r"|(?:book|album|magazine|record|cd|dvd|vhs|game|newspaper|brochure) (?:cover|art|illustration|insert)"
    r"|(?:tarot|trading|greeting|playing|birthday|christmas|post|business|collectible) ?card(?: (?:art|design"
    r"|style))?"
    r"|(?:t-?shirt|tee|tattoo|character|sticker|app|web|ui|game|poster|logo|print) (?:design|print|icon|art"
    r"|asset|sheet)s?"
    r"|stained[ -]glass(?: windows?)?|paper[ -]?cut(?:out|ting)?s?|plush(?:ie)?(?: toy)?|bas[ -]relief"
    r"|(?:lens|sun|light) (?:flare|leak|ray|beam|streak)s?|god ?rays|sunbeams?|light ?rays"
    r"|(?:key|fill|rim|hair|ring|back|ambient|studio|hard|soft|natural|warm|cold|neon|stage|dim|volumetric) lights?"
    r"|(?:film|movie|tv|television|dvd|vhs|cartoon|disney|pixar|anime) ?(?:still|grain|noir|screen|scene"
    r"|screen ?grab|"
    r"screen ?shot|cap|style|poster|show)s?"
    r"|shot (?:on|with|by) (?:an? )?(?:\w+ )?(?:iphone|phone|film|camera|canon|nikon|sony|leica|fujifilm|gopro|drone)"
    r"|(?:full|half|upper|whole) body(?: (?:shot|portrait|view|picture))?|(?:cowboy|long|group|medium) shot"
    r"|(?:unreal|unity|game|graphics|render|source) engine(?: \d)?|ray[ -]trac(?:ed|ing)|national geographic"
    r"|(?:desktop|phone|mobile|computer|iphone|laptop) (?:wallpaper|background|screensaver)s?"
    r"|(?:rule of thirds|depth of field|work of art|state of the art|game of thrones|lord of the rings|"
    r"harry potter|star wars|star trek|studio ghibli|rick and morty|south park|van gogh|cat ?girl anime|game boy|"
    r"adobe \w+|corel \w+)"
    r"|(?:golden|blue|magic) hour|(?:golden|divine) (?:ratio|proportions?)"
    r"|(?:gold|silver|bronze) (?:leaf|foil|ratio)|double exposure|fish ?bowl lens"
    r"|(?:colou?r|tone|skin|film|warm|cold|cool|earth) (?:tone|grading|grade|palette|scheme|temperature)s?"
    r"|made (?:of|from|out of) (?:wood|metal|glass|stone|rock|clay|paper|brick|bricks|ice|yarn|gold|cloth"
    r"|plastic|felt)"
    r")(?![\w-])"
)
STYLE_SENTENCE = re.compile(  # up to the end of a tag: "by" an artist, "in the style of" somebody
    r"\bin (?:the |an? )?styles? of [^,.;()\n]*|\bin (?:an? |the )?(?:[\w'-]+ ){1,3}styles?\b|\b[\w'-]+ styles?\b"
    r"|\b(?:art|artwork|painted|drawn|painting|illustrated|illustration|photographed|photo|photography|directed|"
    r"designed|style|rendered|inspired) by [^,.;()\n]*"
    r"|(?<=,) *(?:\w+ )?(?:by|featured on|trending on|posted on|hosted on) (?!(?:the|an?|my|his|her|its) )[^,.;()\n]*"
)
UNSEEN_WORDS = INVISIBLE_WORDS | STYLE_WORDS  # words for which the painter draws nothing

# Details that a picture may show without being asked (policy "relaxed")

QUALITIES = frozenset(
    """
    adorable attractive beautiful big bright calm charming clean clear cosy cozy crisp curly cute deep delicate
    delicious dense detailed elegant empty fine fluffy fresh friendly furry gentle glossy gorgeous graceful
    grassy happy large leafy little lone lonely long lovely lush magnificent majestic mossy neat nice peaceful
    plain playful pleasant polished pretty proud quiet realistic rocky round rustic sandy serene shaggy shiny
    short silky sleek small smooth snowy soft solitary stunning sunlit sunny tall tasty thick tidy
    traditional vibrant vintage warm weathered wild wise wonderful young
    """.split()
)
NATURAL_COLOURS = frozenset(
    "beige black blond brown dark golden gray grey orange red silver tan white yellow".split()
)
POSES = frozenset(
    """
    standing sitting lying resting sleeping walking running grazing looking posing perched parked playing
    steaming waiting gazing smiling seated relaxing facing staring strolling
    """.split()
)
PLACES_AND_TIMES = frozenset(
    """
    afternoon autumn backdrop background beach bush bushes cabin clearing cliff cloud clouds coast countryside
    dawn day daylight daytime desert dune dunes dusk evening fall field fields floor flowers fog forest garden
    glade glow grass ground grove harbor harbour haze hill hills hillside home horizon house indoors kitchen
    lake lakeside lawn leaves light lighting living meadow midday mist moonlight morning mountain mountains
    night noon ocean outdoors outside park path pasture pavement plain plains pond rain ridge river riverbank
    road roadside rock rocks room sand savanna sea seaside shade shore sidewalk sky snow spring square stone
    storm stream street summer summit sun sunlight sunrise sunset sunshine swamp table trail tree trees twilight
    valley village water waves weather wind winter wood woods yard
    """.split()
)
PREPOSITIONS = frozenset(
    """
    above across against along amid among around at atop before behind below beneath beside between by during in
    inside near next on outside over past through to towards under underneath within
    """.split()
)
PHRASE_FILLERS = frozenset("a an the of its his her their some very really quite with".split())
PLACE_ADJECTIVES = frozenset(
    """
    ancient blue bluish brick busy city cloudy cobbled cold country distant dusty flowery foggy front frozen
    full green hot muddy narrow old open overcast paved purple rainy smoky starry stormy turquoise warm wet
    white wide windy wooden
    """.split()
)
COMPOUNDS = frozenset(  # names of things that lose their meaning without the first word: "red panda"
    f"{first} {second}"
    for row in """
    big:apple/ben/bird/cat/top/wheel
    black:bean/bear/belt/berry/bird/board/box/cherry/coffee/currant/hole/knight/magic/mamba/olive/panther/pepper
    black:pudding/sheep/swan/tea/widow brown:bear/bread/rice/sugar curly:fries/kale
    dark:chocolate/elf/elves/knight/lord deep:dish/sea/space fine:art friendly:ghost
    golden:apple/eagle/fleece/gate/globe/goose/hour/jackal/oriole/pheasant/plover/retriever/snitch/temple
    gray:fox/foxes/heron/seal/whale/wolf/wolves grey:fox/foxes/heron/seal/whale/wolf/wolves
    happy:birthday/meal leafy:seadragon little:mermaid/owl/prince/red/women long:boat/jump/jumper
    orange:blossom/cake/grove/juice/marmalade/peel/sauce/slice/soda/tree
    red:cabbage/carpet/cross/deer/devil/dragon/dwarf/giant/kangaroo/kite/light/meat/onion/panda/pepper/planet
    red:snapper/squirrel/wine rocky:mountain/road silver:birch/fish/fox/foxes/medal/surfer
    snowy:egret/leopard/owl/plover soft:drink/pretzel/serve/shell/toy tall:ship
    white:board/bread/chocolate/christmas/dwarf/elephant/house/lion/meat/pepper/rabbit/rhino/rice/shark/tea/tiger
    white:walker/whale/wine wild:berry/boar/card/cat/dog/flower/fire/goose/geese/rice/turkey/west wise:man/men
    yellow:cab/jacket/submarine
    gazing:ball/globe looking:glass/glasses playing:card/field/ground resting:place
    running:board/gear/machine/short/shoe/track/water sitting:bull/duck/room
    sleeping:bag/beauty/car/giant/mask/mat/pad/pill/policeman
    standing:desk/lamp/mirror/stone/water/wave steaming:basket/pot
    waiting:area/line/list/room walking:boot/cane/dead/frame/palm/shoe/stick
    """.split()
    for first, seconds in [row.split(":")]
    for second in seconds.split("/")
)
HARMLESS_ADJECTIVES = QUALITIES | NATURAL_COLOURS

# Rare words

VERB_ENDINGS = ("ing", "ed")  # rare words with these endings are hardly ever names
