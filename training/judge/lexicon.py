"""English vocabulary for prompts, as data; forms with the same meaning are listed together."""

from collections.abc import Mapping
from dataclasses import dataclass

Forms = tuple[str, ...]  # words or phrases with the same meaning


@dataclass(frozen=True, slots=True)
class Verb:
    """A transitive verb, the nouns it takes as objects, and whether animals can do it too."""

    base: str
    third: str
    ing: str
    participle: str
    objects: tuple[Forms, ...]
    animals_too: bool


def parse_verb(line: str, objects: tuple[Forms, ...], animals_too: bool) -> Verb:
    """A verb from a line with its four forms, such as "eat eats eating eaten"."""
    base, third, ing, participle = line.split()
    return Verb(base, third, ing, participle, objects, animals_too)


def parse_forms(text: str) -> tuple[Forms, ...]:
    """Parse groups separated by commas; the forms of a group are separated by slashes."""
    return tuple(tuple(group.strip().split("/")) for group in text.split(","))


PEOPLE = parse_forms(
    """man/guy, woman/lady, boy, girl, child/kid, baby/infant, old man/elderly man, old woman/elderly woman, little
    girl, young man, young woman, person, police officer/policeman, soldier, doctor, nurse, chef/cook, clown,
    farmer, teacher, firefighter/fireman, astronaut, knight, king, queen, princess, wizard/sorcerer, witch, pirate,
    ninja, dancer, singer, painter, waiter, surfer, skier, skateboarder, cyclist/biker, tennis player, baseball
    player, football player, robot, cowboy, monk, hunter, tourist, student, mermaid, bride, groom"""
)
ANIMALS = parse_forms(
    """dog, puppy/young dog, cat, kitten/young cat, horse, cow, sheep, goat, pig, rabbit/bunny, fox, wolf, bear,
    panda/panda bear, lion, tiger, leopard, elephant, giraffe, zebra, monkey, gorilla, kangaroo, koala, deer, moose,
    camel, donkey, squirrel, mouse, rat, hedgehog, duck, goose, swan, chicken/hen, rooster, bird, parrot, owl,
    eagle, pigeon, penguin, flamingo, peacock, crow, seagull, frog, turtle/tortoise, snake, lizard,
    crocodile/alligator, fish, shark, whale, dolphin, octopus, crab, butterfly, bee, spider, snail, dragon,
    dinosaur, unicorn"""
)
VEHICLES = parse_forms(
    """car/automobile, bus, truck/lorry, train, bicycle/bike, motorcycle/motorbike, boat, ship,
    airplane/plane/aeroplane, helicopter, taxi/cab, van, tractor, scooter, tram/streetcar, spaceship/spacecraft,
    rocket, skateboard, canoe, sailboat/sailing boat, ambulance, fire truck/fire engine, submarine, hot air balloon"""
)
FURNITURE = parse_forms(
    """table, chair, couch/sofa, bed, desk, bench, lamp, shelf, bookcase/bookshelf, cupboard/cabinet, mirror,
    rug/carpet, refrigerator/fridge, oven/stove, sink, toilet, bathtub, television/tv, clock, vase, pillow/cushion,
    window, door"""
)
SMALL = parse_forms(
    """book, cup/mug, bottle, bowl, plate, fork, knife, spoon, umbrella, backpack/rucksack, suitcase, handbag/purse,
    hat, ball, kite, teddy bear, toy, phone/cell phone/cellphone, laptop/laptop computer, camera, guitar, violin,
    key, candle, flower, rose, basket, box, bag, newspaper, toothbrush, hair dryer/hairdryer, scissors, tennis
    racket/tennis racquet, baseball bat, frisbee, surfboard, snowboard, remote/remote control, balloon, sword,
    lantern, map, flag, crown, ring"""
)
FOOD = parse_forms(
    """apple, banana, orange, lemon, pear, strawberry, watermelon, pizza, sandwich, hamburger/burger, hot dog, cake,
    cookie, donut/doughnut, carrot, potato, tomato, mushroom, egg, pumpkin, pineapple, cupcake, ice cream, salad,
    fish"""
)
SCENERY = parse_forms(
    """tree, house, building, tower, bridge, fence, mountain, rock/stone, castle, church, lighthouse, statue,
    fountain,
    tent, windmill, palm tree, wall, barn, stop sign, traffic light, fire hydrant, street sign, snowman, campfire,
    well"""
)
OBJECTS = (*VEHICLES, *FURNITURE, *SMALL, *FOOD, *SCENERY)

COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "pink", "black", "white", "brown", "gray", "golden")
QUALITIES: Mapping[str, tuple[str, ...]] = {
    "people": ("tall", "young", "old", "smiling", "happy", "sad", "angry", "bearded", "muscular", "tired"),
    "animals": ("big", "small", "fluffy", "wet", "cute", "striped", "spotted", "fat", "old", "tiny", "sad", "angry"),
    "objects": tuple(
        (
            "wooden,metal,glass,plastic,large,small,old,new,round,square,broken,empty,shiny,striped,tall,tiny,huge,"
            "stone,leather,rusty,dirty,clean,colorful,transparent"
        ).split(",")
    ),
}
SIMILAR_QUALITIES = (
    {"big", "large"},
    {"small", "tiny"},
    {"big", "huge"},
    {"large", "huge"},
    {"metal", "rusty"},
    {"cute", "fluffy"},
)
NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")

POSES: Mapping[str, Forms] = {
    "sitting": ("sitting", "seated", "sitting down"),
    "standing": ("standing", "standing up"),
    "lying": ("lying down", "laying down", "lying"),
    "sleeping": ("sleeping", "asleep"),
    "running": ("running",),
    "walking": ("walking", "strolling"),
    "jumping": ("jumping", "leaping"),
    "swimming": ("swimming",),
    "flying": ("flying",),
    "eating": ("eating", "having a meal"),
    "drinking": ("drinking",),
    "smiling": ("smiling",),
    "crying": ("crying", "weeping"),
    "dancing": ("dancing",),
    "playing": ("playing",),
    "climbing": ("climbing",),
    "fighting": ("fighting",),
    "reading": ("reading",),
    "falling": ("falling",),
}

RELATIONS: Mapping[str, Forms] = {
    "above": ("above", "over"),
    "below": ("below", "beneath", "under", "underneath"),
    "on": ("on", "on top of", "atop"),
    "in": ("in", "inside", "within"),
    "in front of": ("in front of",),
    "behind": ("behind", "at the back of"),
    "left of": ("to the left of", "left of", "on the left side of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right side of", "on the right of"),
    "next to": ("next to", "beside", "by the side of", "alongside", "adjacent to", "close to"),
    "far from": ("far from", "far away from"),
}
OPPOSITES: Mapping[str, str] = {
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
    "left of": "right of",
    "right of": "left of",
}
SYMMETRIC = frozenset({"next to", "far from"})
SIMILAR_RELATIONS = (
    {"above", "on"},
    {"next to", "left of"},
    {"next to", "right of"},
    {"next to", "in front of"},
    {"next to", "behind"},
)

ANIMATE = (*PEOPLE, *ANIMALS)
VERBS: Mapping[str, Verb] = {
    line.split()[0]: parse_verb(line, objects, animals_too)
    for objects, animals_too, lines in (
        (
            ANIMATE,
            True,
            "chase chases chasing chased;follow follows following followed;watch watches watching watched;"
            "attack attacks attacking attacked;lick licks licking licked;bite bites biting bitten;"
            "lead leads leading led;guard guards guarding guarded;kiss kisses kissing kissed;"
            "push pushes pushing pushed",
        ),
        (
            ANIMATE,
            False,
            "hug hugs hugging hugged;feed feeds feeding fed;wash washes washing washed;pet pets petting petted;"
            "photograph photographs photographing photographed;paint paints painting painted;"
            "teach teaches teaching taught;help helps helping helped;lift lifts lifting lifted;"
            "pull pulls pulling pulled;greet greets greeting greeted;"
            "draw draws drawing drawn;kick kicks kicking kicked;tackle tackles tackling tackled",
        ),
        (
            SMALL,
            False,
            "hold holds holding held;carry carries carrying carried;throw throws throwing thrown;"
            "catch catches catching caught;buy buys buying bought;drop drops dropping dropped;"
            "break breaks breaking broken;"
            "hide hides hiding hidden;sell sells selling sold",
        ),
        (SMALL, True, "touch touches touching touched"),
        (FOOD, True, "eat eats eating eaten;smell smells smelling smelled"),
        (FOOD, False, "cut cuts cutting cut;cook cooks cooking cooked;serve serves serving served"),
        (VEHICLES, False, "drive drives driving driven;repair repairs repairing repaired;park parks parking parked"),
        (ANIMALS, False, "ride rides riding ridden;milk milks milking milked"),
    )
    for line in lines.split(";")
}

SETTINGS: Mapping[str, Forms] = {
    "snow": ("in the snow", "in snow", "on the snow", "surrounded by snow"),
    "beach": ("on the beach", "on a beach", "at the beach"),
    "street": ("on the street", "on a street", "on the road", "on a road"),
    "forest": ("in the forest", "in a forest", "in the woods"),
    "park": ("in the park", "in a park", "at the park"),
    "kitchen": ("in the kitchen", "in a kitchen", "inside a kitchen"),
    "bathroom": ("in the bathroom", "in a bathroom"),
    "bedroom": ("in the bedroom", "in a bedroom"),
    "office": ("in the office", "in an office", "at the office"),
    "night": ("at night", "at nighttime", "during the night", "in the night"),
    "day": ("during the day", "in the daytime", "by day"),
    "sunset": ("at sunset", "during sunset", "at sundown"),
    "sunrise": ("at sunrise", "at dawn", "at daybreak"),
    "rain": ("in the rain", "in rain", "on a rainy day", "while it is raining"),
    "field": ("in a field", "in the field", "on a meadow"),
    "grass": ("on the grass", "in the grass", "on grass", "on a lawn"),
    "city": ("in the city", "in a city", "in an urban area"),
    "desert": ("in the desert", "in a desert"),
    "water": ("in the water", "in water"),
    "under water": ("under water", "underwater", "under the sea"),
    "mountain": ("in the mountains", "on a mountain", "on a mountainside"),
    "space": ("in space", "in outer space"),
    "moon": ("on the moon", "on the surface of the moon"),
    "farm": ("on a farm", "at a farm"),
    "zoo": ("in a zoo", "at the zoo"),
    "garden": ("in the garden", "in a garden"),
    "sky": ("in the sky", "up in the sky"),
    "restaurant": ("in a restaurant", "at a restaurant"),
    "stage": ("on a stage", "on stage"),
    "hill": ("on a hill", "on top of a hill"),
    "winter": ("in winter", "in the winter", "during winter"),
    "autumn": ("in autumn", "in the fall", "in fall"),
    "red ground": ("on a red background", "with a red background", "against a red background"),
    "blue ground": ("on a blue background", "with a blue background", "against a blue background"),
    "white ground": ("on a white background", "with a white background", "white background"),
    "green ground": ("on a green background", "against a green backdrop", "with a green background"),
}
SIMILAR_SETTINGS = (
    {"snow", "winter"},
    {"street", "city"},
    {"field", "grass"},
    {"sky", "space"},
    {"space", "moon"},
    {"water", "under water"},
    {"forest", "park"},
    {"park", "grass"},
    {"mountain", "hill"},
    {"park", "garden"},
    {"farm", "field"},
    {"garden", "grass"},
    {"sunset", "sunrise"},
    {"space", "night"},
    {"hill", "grass"},
    {"field", "hill"},
)  # pictures of these settings may look the same

STYLES: Mapping[str, Forms] = {
    "oil": ("an oil painting of {}", "{}, oil painting", "oil painting of {}", "{} painted in oil"),
    "watercolor": ("a watercolor of {}", "a watercolor painting of {}", "{}, watercolor", "{} in watercolor style"),
    "sketch": ("a pencil sketch of {}", "a pencil drawing of {}", "{}, pencil sketch", "{} drawn in pencil"),
    "cartoon": ("a cartoon of {}", "{}, cartoon style", "{} in cartoon style", "a cartoon drawing of {}"),
    "3d": ("a 3d render of {}", "{}, 3d render", "a 3d rendering of {}", "3d render of {}"),
    "pixel": ("pixel art of {}", "{}, pixel art", "{} in pixel art style"),
    "anime": ("{}, anime style", "{} in anime style", "an anime drawing of {}"),
    "statue": ("a statue of {}", "a sculpture of {}", "statue of {}"),
    "photo": ("a photo of {}", "a photograph of {}", "photo of {}"),
    "gray photo": ("a black and white photo of {}", "{}, black and white photo", "black and white photograph of {}"),
    "logo": ("a logo of {}", "{} logo", "a logo showing {}"),
    "origami": ("origami of {}", "{} made of origami", "{}, origami"),
    "stained glass": ("a stained glass window of {}", "{} in stained glass", "{}, stained glass"),
    "cyberpunk": ("{}, cyberpunk style", "{} in cyberpunk style", "cyberpunk style, {}"),
    "emoji": ("an emoji of {}", "{} emoji"),
}
PHOTO_STYLE = "photo"  # no edit exchanges it with no style, because the pictures may be the same
FRAMES = (
    "a picture of {}",
    "an image of {}",
    "picture of {}",
    "image of {}",
    "please draw {}",
    "{}, please",
    "draw {}",
    "generate an image of {}",
    "create a picture of {}",
    "show me {}",
    "i want a picture of {}",
    "make an image of {}",
    "the image shows {}",
    "this is a picture of {}",
    "there is {}",
    "a picture showing {}",
    "can you draw {}",
)
AND_FORMS = (
    "{} and {}",
    "{} and {}",
    "{} with {}",
    "{} together with {}",
    "{} as well as {}",
    "{}, {}",
    "both {} and {}",
)
TAGS = (
    "highly detailed",
    "4k",
    "8k",
    "hd",
    "high quality",
    "best quality",
    "masterpiece",
    "sharp focus",
    "intricate details",
    "trending on artstation",
    "high resolution",
    "uhd",
    "very detailed",
    "award winning",
    "professional",
    "beautiful",
    "stunning",
    "ultra realistic lighting",
    "extremely detailed",
    "artstation",
)
