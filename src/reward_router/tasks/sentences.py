"""Sentences to rewrite: one a line, with `[present|past]` for the verb."""

TABLE = """
The baker [sells|sold] fresh bread at the market.
My sister [writes|wrote] letters to her best friend.
The children [build|built] a castle in the garden.
Our teacher [speaks|spoke] about the history of Rome.
The gardener [grows|grew] red roses near the gate.
The captain [steers|steered] the ship through the storm.
The doctor [drives|drove] to the hospital before sunrise.
A tired traveller [sleeps|slept] on the last train.
The farmer [feeds|fed] the horses in the barn.
My uncle [catches|caught] fish in the river.
The singer [begins|began] the concert with an old song.
The students [find|found] a mistake in the book.
Two small birds [fly|flew] over the quiet lake.
The painter [draws|drew] a portrait of the queen.
The mechanic [breaks|broke] a window in the garage.
The young queen [wears|wore] a golden crown.
The scientist [makes|made] a new telescope.
Our neighbour [buys|bought] apples from the farm.
The journalist [asks|asked] the minister a question.
The waiter [brings|brought] coffee to the table.
The girl [throws|threw] the ball over the fence.
The driver [stops|stopped] the bus at the corner.
The dog [runs|ran] after the red ball.
The tailor [cuts|cut] and [sews|sewed] the blue cloth.
The boys [swim|swam] in the cold lake.
The cook [tastes|tasted] the tomato soup.
The nurse [gives|gave] the patient some water.
The pilot [sees|saw] a light in the clouds.
The old man [tells|told] stories about the war.
The cat [drinks|drank] milk from a blue bowl.
The workers [leave|left] the factory after lunch.
The actor [forgets|forgot] his lines on stage.
The thief [steals|stole] a ring from the shop.
My grandmother [keeps|kept] photographs in a wooden box.
The river [freezes|froze] near the village.
The team [wins|won] the final game.
The hunter [follows|followed] the deer into the forest.
The carpenter [paints|painted] the kitchen door green.
The tourists [visit|visited] the castle on the hill.
The lawyer [reads|read] and [signs|signed] the contract.
A strong wind [blows|blew] the hat into the river.
The princess [rides|rode] a white horse to the palace.
The bell [rings|rang] loudly in the tower.
The boat [sinks|sank] near the rocky island.
The soldier [hides|hid] behind the stone wall.
The clerk [sends|sent] the parcel to London.
The monkey [steals|stole] a banana from the basket.
The mayor [opens|opened] the new bridge.
The manager [pays|paid] the bills with a card.
The band [plays|played] music in the town square.
The boy [loses|lost] his keys in the park.
The chef [cooks|cooked] rice with fresh vegetables.
The wolf [waits|waited] near the frozen river.
The librarian [chooses|chose] a book about planets.
The runner [falls|fell] near the finish line.
The sailor [ties|tied] the boat to the pier.
My cousin [teaches|taught] maths at the village school.
The artist [leaves|left] the museum with a smile.
The police officer [stands|stood] outside the bank.
The engineer [tests|tested] the engine in the workshop.
The child [eats|ate] a sweet orange after dinner.
The guest [thanks|thanked] the host for the meal.
The company [builds|built] houses near the airport.
The plumber [fixes|fixed] the pipe in the kitchen.
The spider [spins|spun] a web above the door.
The snow [covers|covered] the roof of the cottage.
The pupils [learn|learned] a poem about winter.
The queen [meets|met] the ambassador in the garden.
The dancer [wears|wore] red shoes on stage.
The judge [hears|heard] the story of the witness.
The postman [knocks|knocked] on the green door.
The fisherman [repairs|repaired] his net on the beach.
The king [speaks|spoke] to the crowd from the balcony.
The magician [pulls|pulled] a rabbit from the hat.
The owl [hunts|hunted] mice in the dark field.
The baby [cries|cried] in the middle of the night.
My father [shuts|shut] and [locks|locked] the front door.
The shepherd [leads|led] the sheep down the valley.
The author [spends|spent] the summer in Greece.
The violinist [practises|practised] in the empty hall.
The customer [pays|paid] for the shoes in cash.
The train [arrives|arrived] at the station with a delay.
The detective [finds|found] a letter under the carpet.
The astronaut [dreams|dreamed] about the red planet.
The teacher [holds|held] a map of Africa.
The rain [falls|fell] softly on the roof.
The secretary [types|typed] a report for the director.
The gardeners [plant|planted] tulips along the road.
The swimmer [crosses|crossed] the channel in the morning.
The goat [climbs|climbed] the steep hill.
The choir [sings|sang] in the old church.
The visitors [take|took] photographs of the statue.
The hiker [carries|carried] water in a heavy bag.
The merchant [trades|traded] silk for silver coins.
The kitten [jumps|jumped] onto the kitchen table.
The inventor [shows|showed] the machine to the public.
The twins [share|shared] a room on the second floor.
The bees [make|made] honey near the orchard.
The referee [blows|blew] the whistle at the end.
The potter [shapes|shaped] the clay with both hands.
The dragon [guards|guarded] the gold in the cave.
The beggar [sits|sat] on the steps of the church.
The maid [sweeps|swept] the floor of the hall.
The professor [gives|gave] a lecture about whales.
The squirrel [hides|hid] nuts under the tree.
The president [goes|went] to Paris by train.
The woman [speaks|spoke] to her neighbour about the noise.
The grandfather [wakes|woke] the children at dawn.
The photographer [lends|lent] her camera to a friend.
The barber [cuts|cut] hair and [tells|told] jokes.
The parents [bring|brought] a cake to the party.
The explorers [discover|discovered] a cave behind the waterfall.
The lion [sleeps|slept] in the shade of a tree.
The elephant [carries|carried] logs through the jungle.
The robber [flees|fled] through the back door.
The editor [corrects|corrected] the text with a red pen.
The poet [reads|read] and [burns|burned] the letter.
The sun [rises|rose] behind the blue mountains.
The leaves [turn|turned] yellow in the park.
The ducks [swim|swam] across the small pond.
The builder [lifts|lifted] the heavy stones.
The nurse [wears|wore] a white coat at work.
The coach [explains|explained] the rules to the players.
The ship [leaves|left] the harbour with the tide.
The villagers [dance|danced] around the fire.
The prisoner [digs|dug] a tunnel under the wall.
The miner [finds|found] silver in the mountain.
The ants [carry|carried] crumbs to the nest.
The girl [whispers|whispered] a secret to her brother.
"""
