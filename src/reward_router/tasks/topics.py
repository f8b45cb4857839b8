"""Subjects to write about, one a line: `topic | a word to use | another | a word to avoid`."""

TABLE = """
a rainy afternoon | umbrella | window | rain
morning coffee | cup | kitchen | drink
riding a bicycle | helmet | road | ride
the night sky | star | quiet | dark
baking bread | flour | oven | bread
a busy train station | ticket | crowd | train
growing tomatoes | garden | soil | plant
learning to swim | pool | teacher | water
a walk in the forest | path | bird | tree
moving to a new city | box | neighbour | new
a birthday party | candle | friend | cake
working from home | desk | email | work
an old library | shelf | dust | book
a trip to the beach | towel | shell | sand
adopting a dog | leash | walk | dog
cooking dinner for friends | recipe | table | food
a football match | goal | crowd | team
playing the piano | finger | lesson | music
a long flight | seat | cloud | plane
fixing a bicycle tyre | pump | tool | tyre
the first day of school | bag | teacher | school
a winter storm | snow | road | cold
visiting a museum | painting | guide | museum
a job interview | question | suit | job
camping in the mountains | tent | fire | mountain
saving money | bank | month | money
a power cut | candle | street | light
learning a new language | word | mistake | language
a visit to the dentist | chair | tooth | pain
building a treehouse | ladder | hammer | wood
a summer picnic | blanket | basket | food
taking photographs | camera | light | picture
running a marathon | shoe | mile | run
a quiet village | church | field | small
watching birds | morning | wing | bird
writing a letter | paper | stamp | write
a crowded market | fruit | price | people
repairing an old clock | spring | hand | time
a fishing trip | boat | lake | fish
recycling at home | bottle | bin | waste
a chess tournament | board | silence | game
a lost wallet | pocket | police | money
planting trees | shovel | future | tree
a new pair of shoes | shop | size | foot
the local bakery | smell | queue | bread
healthy breakfasts | fruit | morning | healthy
a farm in spring | lamb | tractor | animal
driving at night | lamp | mirror | car
a hospital visit | nurse | flower | sick
a school play | stage | costume | play
studying for an exam | notes | library | study
electric cars | battery | city | electric
a long bus ride | driver | stop | bus
wild horses | grass | wind | horse
the history of bridges | river | stone | bridge
making chocolate | sugar | spoon | sweet
a family reunion | cousin | story | family
keeping bees | hive | flower | honey
a desert crossing | camel | thirst | sand
a phone call from an old friend | voice | memory | phone
a street musician | guitar | coin | music
cleaning the garage | broom | shelf | clean
a lighthouse on the coast | ship | storm | light
a wedding in the countryside | ring | barn | love
the smell of fresh paint | wall | brush | paint
a snowy mountain village | chimney | ski | snow
buying a used car | engine | price | car
a hot air balloon flight | basket | sky | balloon
the life of a sailor | rope | wave | sea
a science fair | poster | prize | science
volunteering at a shelter | blanket | meal | help
sleeping better | pillow | screen | sleep
a broken computer | screen | repair | computer
the first snow of the year | glove | child | white
knitting a scarf | needle | colour | wool
a river in flood | bank | rescue | water
street food | spice | corner | food
a garden in autumn | leaf | rake | garden
an early morning run | shoe | sunrise | run
meeting new neighbours | door | smile | new
a night at the theatre | actor | curtain | stage
a storm at sea | captain | wave | ship
solar panels | roof | energy | sun
dancing at a wedding | shoe | song | dance
a surprise gift | ribbon | paper | gift
a trip to the zoo | monkey | ticket | animal
growing up in a small town | street | friend | small
an honest mistake | apology | lesson | wrong
the taste of strawberries | summer | cream | sweet
working in a hospital | doctor | night | patient
public transport | ticket | morning | bus
teaching children to read | page | patience | book
painting a house | ladder | bucket | paint
a hike in the rain | boot | mud | wet
a library card | shelf | child | book
a power station | engineer | smoke | energy
drinking enough water | glass | summer | water
the village blacksmith | iron | fire | metal
an evening by the fire | chair | story | warm
shopping for groceries | list | basket | buy
watching a sunset | hill | colour | sun
a treasure map | island | chest | gold
living near an airport | noise | window | plane
a school garden | seed | pupil | plant
the invention of the wheel | cart | stone | round
a train journey through the Alps | valley | seat | mountain
an empty theatre | seat | echo | stage
a new haircut | mirror | scissors | hair
playing cards with grandparents | table | laugh | game
a cold lake in spring | jump | breath | water
cheese makers | milk | cellar | cheese
a walk after dinner | dog | lamp | food
collecting stamps | album | country | stamp
a secret garden | key | wall | flower
making new friends | smile | lunch | friend
a city without cars | bicycle | square | car
the sound of the sea | shell | sleep | wave
the work of a firefighter | ladder | smoke | fire
space travel | rocket | planet | space
a day without a phone | book | park | phone
building a sandcastle | bucket | tower | sand
a bookshop on a corner | lamp | cat | book
weekend chores | laundry | music | work
visiting grandparents | cake | story | old
a rock concert | drum | light | loud
caring for a cat | bowl | sofa | cat
a vegetable soup | carrot | pot | hot
learning to drive | mirror | teacher | car
a foggy harbour | boat | horn | fog
an orchestra rehearsal | violin | chair | music
the night shift | coffee | clock | night
writing a diary | pen | secret | day
a mountain rescue | rope | helicopter | mountain
a tea ceremony | cup | guest | tea
an apple orchard | ladder | basket | apple
an unexpected guest | door | soup | visit
a robot in the kitchen | pan | button | machine
wind turbines | hill | blade | wind
a stolen painting | thief | frame | art
the first day at a new job | desk | name | job
ice skating | glove | frozen | ice
a village festival | lantern | drum | people
the history of chocolate | ship | sugar | sweet
a small aquarium | glass | plant | fish
a walk across a bridge | river | wind | bridge
a good night story | pillow | dragon | sleep
a garden pond | frog | stone | water
growing herbs on a balcony | pot | kitchen | plant
an online class | screen | notes | teacher
a mountain bike race | helmet | dust | fast
a letter from abroad | stamp | mother | letter
a pottery class | clay | wheel | hands
a bakery at dawn | oven | apron | bread
cleaning up a beach | glove | bottle | plastic
making a budget | rent | month | money
a friendly robot | button | child | machine
a long queue | patience | ticket | wait
a kite festival | string | cloud | wind
the value of patience | seed | teacher | time
an afternoon nap | sofa | cat | sleep
"""
