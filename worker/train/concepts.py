"""The everyday things that the shipped model knows; a plain table without code.

One line a thing: its emoji, the names people call it (the first is its own, `|` parts them) and the
colours it already has, so that "a red fox" needs no tinting. Those asked for most come first, so that a
short run can learn the beginning only.
"""

CONCEPTS = """
🦊 fox | red fox ; orange red
🐕 dog | puppy | hound ; brown
🐈 cat | kitten | kitty ; orange
🐦 bird | songbird ; red
🐠 fish | tropical fish ; blue
🐎 horse | pony ; brown
🐇 rabbit | bunny | hare ; white
🐻 bear | brown bear ; brown
🦉 owl ; brown
🐧 penguin ; black
🐢 turtle | tortoise ; green
🦋 butterfly ; red orange
🦄 unicorn ; white
🐉 dragon ; green
🚗 car | automobile ; red
⛵ boat | sailboat | sailing boat ; white
🚀 rocket | spaceship | space rocket ; red white
🏠 house | home | cottage ; brown
🏰 castle ; gray
🌳 tree | oak tree ; green
🌻 sunflower ; yellow
🌹 rose | red rose ; red
🍄 mushroom | toadstool ; red
🌵 cactus ; green
🍎 apple | red apple ; red
🍕 pizza | slice of pizza ; orange
🎂 cake | birthday cake ; yellow
⭐ star ; yellow
🌙 moon | crescent moon ; yellow
🌞 sun | smiling sun ; yellow
⛄ snowman ; white
❤ heart | red heart ; red
🎈 balloon | red balloon ; red
🤖 robot ; gray
👻 ghost ; white
✈ airplane | plane | aeroplane ; blue
🦁 lion ; yellow orange
🐘 elephant ; gray
🐸 frog ; green
🦆 duck ; green
🐳 whale | blue whale ; blue
🐙 octopus ; red orange
🐝 bee | honeybee | bumblebee ; yellow
🐼 panda | panda bear ; white
🐅 tiger ; orange
🐄 cow ; white
🐖 pig | piglet ; pink
🐒 monkey ; brown
🐁 mouse ; gray white
🚌 bus ; orange yellow
🚲 bicycle | bike ; red
🚂 train | steam train | locomotive ; black
🚁 helicopter ; orange
🌲 pine tree | fir tree ; green
🌴 palm tree ; green
🌷 tulip ; pink
🍌 banana ; yellow
🍓 strawberry ; red
🍋 lemon ; yellow
🍦 ice cream | ice cream cone ; white
☕ cup of coffee | coffee | cup of tea ; white
🍔 hamburger | burger ; brown
🍩 doughnut | donut ; brown
☁ cloud ; white
🌈 rainbow ;
👑 crown | golden crown ; yellow
🎸 guitar | electric guitar ; red
📚 book | stack of books ; green
⏰ clock | alarm clock ; red
🔑 key | golden key ; yellow
☂ umbrella ; purple
🎩 hat | top hat ; black
⚽ ball | soccer ball | football ; white
🧸 teddy bear | teddy ; brown
💎 diamond | gem | jewel ; blue
🕯 candle ; white
👟 shoe | sneaker | running shoe ; gray purple
📷 camera ; gray
🎁 gift | present ; yellow
🎃 pumpkin | jack-o-lantern ; orange
"""
