"""Names for a bank's drawings besides its own: synonyms, and kinds of a thing that has only one drawing.

A row counts only if the bank has its thing. Only words with hardly any other meaning in a prompt are listed.
"""

OTHER_NAMES: dict[str, str] = {  # other name: the name in a bank
    other: name
    for name, others in (
        row.split(": ")
        for row in """
cat: feline/tomcat/tabby/tabby cat
dog: canine/beagle/dachshund/labrador/terrier/corgi/husky/bulldog/dalmatian/golden retriever/german shepherd
dog: greyhound/pug/chihuahua
horse: mare/steed/foal
cow: calf/heifer/cattle
pig: hog/swine/sow
duck: duckling
goose: gander/gosling
fish: goldfish/clownfish/trout/salmon/koi
bird: sparrow/robin/finch/canary/bluebird/hummingbird
eagle: hawk/falcon
parrot: macaw/cockatoo
owl: barn owl/owlet
lion: lioness/lion cub
tiger: tiger cub
deer: fawn/doe/reindeer/elk
fox: vixen/fox cub
frog: toad/tree frog
snake: python/cobra
turtle: sea turtle/terrapin
whale: humpback/humpback whale/orca
dinosaur: trex/raptor/velociraptor
sauropod: brontosaurus/diplodocus/brachiosaurus
monkey: chimp/chimpanzee/baboon
spider: tarantula
bison: buffalo
boar: wild boar
man: gentleman/bloke/father/dad/husband
woman: madam/mother/mom/mum/wife
old man: grandfather/grandpa/elderly man
old woman: grandmother/grandma/granny/elderly woman
boy: lad/schoolboy
girl: schoolgirl
baby: newborn
police officer: policewoman
firefighter: fire fighter/firewoman
astronaut: spacewoman
wizard: warlock/sorceress
princess: empress
student: pupil
teacher: schoolteacher/professor
artist: painter
pilot: aviator
car: motorcar/coupe/convertible/roadster/limousine
racing car: formula one car/f1 car
truck: semi truck/big rig
bus: double decker
bicycle: mountain bike/racing bike
motorcycle: moped
airplane: jet/airliner/jumbo jet/biplane
helicopter: chopper
boat: sailing ship/sailing yacht
ship: steamer/ferryboat
rocket: space shuttle/spacecraft/starship
flying saucer: alien ship/alien spacecraft
taxi: yellow cab
house: bungalow/farmhouse/mansion/villa
building: skyscraper
castle: fortress/palace
couch: loveseat
chair: armchair/stool/rocking chair
bed: bunk bed
lantern: oil lamp
television: telly
laptop: macbook
computer: pc
phone: iphone/smart phone
clock: wall clock/cuckoo clock
watch: wrist watch/pocket watch
guitar: acoustic guitar/bass guitar
piano: grand piano
backpack: knapsack
handbag: shoulder bag
hat: fedora/bowler hat/sun hat
cap: baseball hat
shoe: trainers/tennis shoe
boot: wellington boot/rain boot/cowboy boot
shirt: tee/blouse/polo shirt
pants: slacks/denim jeans
coat: raincoat/trench coat/parka
dress: ball gown/wedding dress/evening dress
glasses: reading glasses/eye glasses
ring: wedding ring
crown: tiara/diadem
diamond: ruby/emerald/sapphire
cup of coffee: coffee cup/espresso/cappuccino/latte
glass of wine: red wine/white wine
cocktail: margarita/mojito
ice cream: gelato/ice lolly
flower: wildflower
tree: oak
cake: chocolate cake/wedding cake/cheesecake
spaghetti: pasta/noodles/linguine
egg: easter egg
tomato: cherry tomato
hot pepper: chili/chilli/chili pepper/chilli pepper/jalapeno
eggplant: aubergine
corn: maize/sweetcorn
pine tree: evergreen/fir/spruce tree
palm tree: palm
mushroom: fly agaric
star: five-pointed star
fire: campfire/bonfire
lightning bolt: thunderbolt
rainbow: double rainbow
sword: katana/saber/sabre/broadsword/longsword
knife: penknife/pocket knife
axe: hatchet
hammer: mallet
umbrella: brolly
mirror: looking glass
candle: candlestick
wastebasket: trash can/garbage can/dustbin
wrench: spanner
alien: martian
robot: droid/cyborg
spider web: cobweb/spiderweb
magnifying glass tilted left: magnifying glass/magnifier
bullseye: dartboard/dart board/archery target
""".strip().splitlines()
    )
    for other in others.split("/")
}
