"""A table of the everyday things that the shipped model knows.

Each line has the emoji of a thing, its names separated by `|` (the first is the main one) and, after `;`, its natural
colours: "a red fox" needs no tinting. The most requested things come first, so that a short run can learn the
start of the table only.
"""

CONCEPTS = """
🐈 cat | kitten | kitty ; orange
🐕 dog | puppy | hound | doggy ; brown orange
🌳 tree | oak tree ; green
🚗 car | automobile | sedan | hatchback ; red
🐎 horse | pony | stallion ; brown
🎩 hat | top hat ; black
🤖 robot | android ; white gray
🪑 chair | wooden chair ; brown
☕ cup of coffee | coffee | cup of tea | cup | mug ; white
🐻 bear | brown bear | grizzly bear ; brown
👨 man | guy ; yellow orange
📕 book | closed book | textbook ; red
🚂 train | steam train | locomotive | steam engine | steam locomotive ; black red
🚲 bicycle | bike | pushbike ; red
⛵ boat | sailboat | sailing boat | yacht ; orange yellow
✈ airplane | plane | aeroplane | jet plane | aircraft ; blue
🏠 house | home | cottage ; orange brown
🐉 dragon ; green
🚌 bus | school bus ; orange yellow
⏰ clock | alarm clock ; red white
🌼 flower | daisy ; white
🛋 couch | sofa | settee ; blue
🐦 bird | songbird ; red
🪴 plant | potted plant | houseplant ; green
👩 woman | lady ; yellow orange
🍽 plate | dinner plate ; white gray
⚽ ball | soccer ball | football ; white blue
🐄 cow | dairy cow ; white black
🛹 skateboard ; purple black
👧 girl | little girl ; yellow orange
🦒 giraffe ; orange yellow
📱 phone | cell phone | mobile phone | smartphone | cellphone ; black
🚀 rocket | spaceship | space rocket | rocket ship ; red white
🐠 fish | tropical fish ; blue
🛏 bed ; blue
☁ cloud ; white
🏔 mountain | snowy mountain | snow-capped mountain | mountain peak ; brown
🐸 frog ; green
🛑 stop sign ; red
🍎 apple | red apple ; red
🐘 elephant ; gray
🍌 banana ; yellow
🍾 bottle | bottle of champagne | champagne bottle | champagne ; green
🔑 key | golden key ; yellow orange
🏺 vase | amphora | clay pot | urn ; brown
🍕 pizza | slice of pizza | pizza slice ; orange
🐇 rabbit | bunny | hare | bunny rabbit ; white
👦 boy | little boy ; yellow orange
📺 television | tv | tv set | television set ; gray blue
🌞 sun | smiling sun ; yellow orange
🐖 pig | piglet ; pink
🖥 computer | desktop computer | computer monitor | monitor ; blue gray
💎 diamond | gem | jewel | gemstone ; blue
🐁 mouse ; gray white
💻 laptop | laptop computer | notebook computer ; blue gray
🥣 bowl | cereal bowl | soup bowl ; blue
🎒 backpack | rucksack | school bag | schoolbag ; red pink
🧳 suitcase | luggage | baggage ; blue
🌙 moon | crescent moon ; yellow
🚚 truck | lorry | delivery truck | box truck ; yellow orange
👗 dress | gown ; blue
🎂 cake | birthday cake ; orange white
🧑 person | human ; yellow orange
🦉 owl ; brown
👕 shirt | t-shirt | tee shirt ; green
👜 handbag | bag ; brown
🧸 teddy bear | teddy | stuffed bear | stuffed animal ; brown orange
☂ umbrella | parasol ; purple
🏍 motorcycle | motorbike ; red
📷 camera | photo camera | digital camera ; gray
🐅 tiger ; orange black
🕯 candle ; white
🦋 butterfly ; red orange
🚦 traffic light | stoplight ; black
🧒 child | kid | toddler ; yellow orange
🏢 building | office building | apartment building | tower block ; gray
🧥 coat | jacket | overcoat ; orange brown
🐑 sheep | lamb | ewe ; white
🐢 turtle | tortoise ; green
🔥 fire | flame ; orange red
⭐ star | gold star ; yellow
👟 shoe | sneaker | running shoe | trainer ; gray purple
🏰 castle ; gray red
🐝 bee | honeybee | bumblebee ; yellow black
🎈 balloon | red balloon ; red
🦓 zebra ; black white
👽 alien | extraterrestrial ; green
👓 glasses | eyeglasses | spectacles | pair of glasses ; blue black
🧑‍🚀 astronaut | spaceman | cosmonaut ; white
🐔 chicken | hen ; white
⚾ baseball ; white
🚽 toilet | lavatory ; white
🐼 panda | panda bear ; white black
🦊 fox | red fox ; orange red
👶 baby | infant ; yellow orange
🎿 skis | pair of skis | ski ; blue orange
👖 pants | jeans | trousers | pair of jeans ; blue
👑 crown | golden crown ; yellow orange
🪨 rock | stone | boulder ; white gray
🍔 hamburger | burger | cheeseburger ; brown
🪐 planet | saturn ; orange
🍷 glass of wine | wine | wine glass | glass of red wine | wineglass ; red purple
🌍 earth | globe | planet earth ; blue green
🗿 statue | stone head | moai | easter island head ; gray
🪁 kite ;
🌈 rainbow ;
🌹 rose | red rose ; red
🦖 dinosaur | tyrannosaurus | t-rex | tyrannosaurus rex ; green
📦 box | cardboard box | package | parcel ; orange brown
🍄 mushroom | toadstool ; red white
🍺 beer | mug of beer | glass of beer | beer mug | pint of beer ; yellow orange
🧙 wizard | mage | sorcerer ; blue
🎸 guitar | electric guitar ; red
💀 skull | human skull ; white
🍩 doughnut | donut ; brown
⌨ keyboard | computer keyboard ; white gray
🎾 tennis racket | tennis racquet | racket ; red
❤ heart | red heart | love heart ; red
🗡 sword | dagger ; gray
🪟 window ; blue white
🪖 helmet | military helmet | army helmet ; green
🦆 duck | mallard ; white green
🚢 ship | cruise ship | ocean liner | steamship ; white red
🥏 frisbee | flying disc ; blue
🔪 knife | kitchen knife | chef's knife ; gray blue
🦁 lion | lion head ; yellow orange
🐧 penguin ; black white
🌭 hot dog | hotdog ; orange
👸 princess | queen ; purple yellow
🐙 octopus ; red orange
🌴 palm tree | coconut tree ; green
🥄 spoon | teaspoon ; white gray
🚁 helicopter ; orange
🐿 squirrel | chipmunk ; orange brown
🥪 sandwich ; brown
👾 monster | alien monster | space invader ; purple
🕶 sunglasses | pair of sunglasses ; black
🛻 pickup truck | pickup | pick-up truck ; red
👔 tie | necktie | shirt and tie ; blue
🦎 lizard | gecko ; green
👻 ghost | phantom ; white
🍓 strawberry ; red
🐳 whale | blue whale ; blue
🪞 mirror ; yellow blue
🍦 ice cream | ice cream cone | soft ice cream ; white orange
🍋 lemon ; yellow
🐒 monkey ; brown
🏀 basketball ; orange
🎤 microphone | mic ; gray black
🥕 carrot ; orange
⚡ lightning bolt | bolt of lightning | lightning ; orange
🪼 jellyfish ; blue
🥷 ninja ; black purple
💍 ring | diamond ring | engagement ring ; white blue
🏛 temple | greek temple | roman temple ; white gray
🦝 raccoon ; gray
🍃 leaf | green leaf ; green
🐺 wolf ; gray
🥦 broccoli ; green
🧤 gloves | pair of gloves ; purple
🧚 fairy | pixie ; orange
🧟 zombie ; gray
🥚 egg | hen's egg ; orange brown
🌊 wave | ocean wave | sea wave ; blue
🎹 piano | piano keyboard ; black white
🦌 deer | stag ; orange brown
🗽 statue of liberty ; green
🏎 racing car | race car | racecar | sports car ; red
🚪 door | wooden door ; orange brown
🪶 feather | quill ; orange brown
🐍 snake | serpent ; green
🎧 headphones | pair of headphones ; white gray
🎃 pumpkin | jack-o-lantern ; orange
🦥 sloth ; orange brown
🛁 bathtub | bath | tub ; white gray
🦴 bone ; white
🥓 bacon | strip of bacon ; red
🎻 violin | fiddle ; brown
👢 boot | rubber boot ; red pink
✏ pencil ; orange red
🍸 cocktail | martini | cocktail glass ; green
🌸 cherry blossom | blossom ; pink
🥛 glass of milk | milk ; white
🗺 map | world map ; blue green
🐬 dolphin | porpoise ; blue
🌻 sunflower ; yellow
🐐 goat | billy goat ; brown
🦈 shark | great white shark ; gray
🐹 hamster ; orange
🎁 gift | present | gift box ; yellow red
🌵 cactus | saguaro ; green
🍪 cookie | chocolate chip cookie | biscuit ; orange brown
🦢 swan ; white
📚 stack of books | pile of books ; green
🏮 lantern | paper lantern | chinese lantern ; orange red
🐊 crocodile | alligator ; green
🧢 cap | baseball cap ; blue
🌋 volcano | erupting volcano ; purple red
🌲 pine tree | fir tree | spruce | conifer ; green
🍬 candy | piece of candy | wrapped candy ; red yellow
📰 newspaper ; white gray
🦅 eagle | bald eagle ; brown
🌪 tornado | whirlwind | twister ; gray
🧜‍♀ mermaid ; green
🧑‍🍳 chef | cook ; white
🧣 scarf ; red
🍟 french fries | fries ; yellow red
☎ telephone | rotary phone | landline phone | old phone ; red
🧀 cheese | piece of cheese | wedge of cheese ; yellow
👮 police officer | policeman | cop ; blue
🍊 orange | tangerine | mandarin | clementine ; orange
🍅 tomato ; red
🐌 snail ; brown orange
🐪 camel | dromedary ; orange brown
🍒 cherry | pair of cherries ; red
🚜 tractor | farm tractor ; green
✂ scissors | pair of scissors ; red
🧁 cupcake ; pink purple
🖊 pen | ballpoint pen | biro ; blue orange
⛺ tent | camping tent ; green
🍇 grapes | bunch of grapes ; purple
⌚ watch | wristwatch ; blue
💡 light bulb | bulb | lightbulb ; yellow orange
🪙 coin | gold coin ; yellow orange
🛸 flying saucer | ufo ; blue gray
❄ snowflake ; blue
🕷 spider ; black
🍉 watermelon | slice of watermelon ; red green
🍍 pineapple ; yellow
🥑 avocado ; green
🦄 unicorn ; white purple pink
🦀 crab ; red
🔨 hammer ; gray brown
🦇 bat ; brown
👁 eye | eyeball ; white brown
🦘 kangaroo | wallaby ; orange brown
🧑‍🚒 firefighter | fireman ; red
⛄ snowman ; white blue
🍿 popcorn | bucket of popcorn ; red white
🎅 santa claus | santa | father christmas ; red
🍞 bread | loaf of bread ; orange brown
🚒 fire truck | fire engine ; red
🥁 drum | snare drum ; red white
🏆 trophy | gold trophy ; yellow
🎄 christmas tree | xmas tree ; green
🤡 clown | clown face ; white red
💐 bouquet | bouquet of flowers | bunch of flowers ; pink
🎲 dice | die ; white
🍑 peach ; orange
🌮 taco ; yellow
🍫 chocolate | chocolate bar | bar of chocolate ; brown
🦍 gorilla | ape ; gray
🍳 fried egg | frying pan | pan ; black
😢 crying face | sad face | tearful face ; yellow
🍐 pear ; green yellow
⛪ church | chapel ; orange brown
🛡 shield ; blue
🌷 tulip ; pink
🔔 bell | golden bell ; yellow orange
🐞 ladybug | ladybird ; red
🚕 taxi | cab | taxicab ; yellow orange
🙂 smiley | smiley face | smiling face | happy face ; yellow
🚓 police car | patrol car | cop car ; black white
⚓ anchor ; blue
🫖 teapot | tea pot ; red
🥞 pancakes | stack of pancakes ; orange brown
"""
