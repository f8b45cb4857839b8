"""Questions with short answers, one a line: `question | accepted answer | another ...`."""

TABLE = """
What is the capital of France? | Paris
What is the capital of Japan? | Tokyo
What is the capital of Italy? | Rome
What is the capital of Spain? | Madrid
What is the capital of Germany? | Berlin
What is the capital of Russia? | Moscow
What is the capital of Egypt? | Cairo
What is the capital of Greece? | Athens
What is the capital of Canada? | Ottawa
What is the capital of Australia? | Canberra
What is the capital of China? | Beijing
What is the capital of India? | New Delhi | Delhi
What is the capital of Portugal? | Lisbon
What is the capital of Ireland? | Dublin
What is the capital of Austria? | Vienna
What is the capital of Poland? | Warsaw
What is the capital of Norway? | Oslo
What is the capital of Sweden? | Stockholm
What is the capital of Finland? | Helsinki
What is the capital of Denmark? | Copenhagen
What is the capital of Hungary? | Budapest
What is the capital of Turkey? | Ankara
What is the capital of Cuba? | Havana
What is the capital of Peru? | Lima
What is the capital of Argentina? | Buenos Aires
What is the capital of Chile? | Santiago
What is the capital of Kenya? | Nairobi
What is the capital of Thailand? | Bangkok
What is the capital of South Korea? | Seoul
What is the capital of the United Kingdom? | London
What is the capital of the United States? | Washington
What is the capital of the Netherlands? | Amsterdam
What is the capital of Mexico? | Mexico City
What is the capital of Ukraine? | Kyiv | Kiev
What is the capital of Iran? | Tehran
On which continent is Brazil? | South America
On which continent is Nigeria? | Africa
On which continent is Mongolia? | Asia
On which continent is Switzerland? | Europe
Which ocean lies between Africa and Australia? | Indian
Which ocean lies between Europe and North America? | Atlantic
What is the largest ocean on Earth? | Pacific
What is the highest mountain on Earth? | Everest
What is the longest river in South America? | Amazon
What is the longest river in Africa? | Nile
What is the largest hot desert in the world? | Sahara
In which country is the Eiffel Tower? | France
In which country is the Colosseum? | Italy
In which country is the Great Wall? | China
In which country are the pyramids of Giza? | Egypt
In which country is the Taj Mahal? | India
In which country is Machu Picchu? | Peru
In which city is Big Ben? | London
In which city is the Statue of Liberty? | New York
Which country is shaped like a boot? | Italy
Which country has the largest area in the world? | Russia
What is the chemical symbol of gold? | Au
What is the chemical symbol of oxygen? | O | O2
What is the chemical symbol of sodium? | Na
What is the chemical symbol of iron? | Fe
What is the chemical formula of water? | H2O | H₂O
Which gas do plants take in from the air? | carbon dioxide | CO2
Which gas do people need to breathe? | oxygen
Which planet is closest to the Sun? | Mercury
Which planet is known as the Red Planet? | Mars
Which planet is the largest in our solar system? | Jupiter
Which planet is famous for its rings? | Saturn
What star is at the centre of our solar system? | Sun
What natural satellite goes around the Earth? | Moon
What force pulls objects towards the ground? | gravity | gravitational
Which metal is liquid at room temperature? | mercury
What is the hardest natural material? | diamond
At what temperature in degrees Celsius does water boil? | 100
At what temperature in degrees Celsius does water freeze? | 0 | zero
What do we call frozen water? | ice
What do we call molten rock that comes out of a volcano? | lava | magma
Which part of a plant takes up water from the soil? | roots | root
What process do plants use to make food from light? | photosynthesis
Which organ pumps blood through the body? | heart
Which organ do we use to think? | brain
Which organs do we breathe with? | lungs | lung
What is the largest organ of the human body? | skin
How many bones does an adult human have? | 206
How many chambers does the human heart have? | four | 4
How many teeth does an adult usually have? | 32 | thirty-two
What red liquid flows through our veins? | blood
Which vitamin does the body make in sunlight? | vitamin D
What is the largest animal on Earth? | blue whale
What is the fastest land animal? | cheetah
What is the tallest animal in the world? | giraffe
What is the largest land animal? | elephant | elephants
Which bird is the largest in the world? | ostrich
Which animal is called the king of the jungle? | lion
Which black and white bear eats bamboo? | panda | pandas
What do bees make that people eat? | honey
What do cows mainly eat? | grass | hay
What is a baby dog called? | puppy | pup
What is a baby cat called? | kitten
What is a baby cow called? | calf
What is a baby sheep called? | lamb
What is a baby frog called? | tadpole
What is a female horse called? | mare
What is a group of wolves called? | pack
What is a group of fish called? | school | shoal
How many legs does a spider have? | eight | 8
How many legs does an insect have? | six | 6
How many arms does an octopus have? | eight | 8
Which insect turns from a caterpillar into something with wings? | butterfly | moth
Which mammal can truly fly? | bat | bats
Which sea animal has a shell and lives more than a hundred years? | turtle | tortoise
How many days are there in a week? | seven | 7
How many days are there in a leap year? | 366
How many months are there in a year? | twelve | 12
How many hours are there in a day? | 24 | twenty-four
How many minutes are there in an hour? | 60 | sixty
How many seconds are there in a minute? | 60 | sixty
How many years are there in a century? | 100 | hundred
How many years are there in a decade? | ten | 10
How many sides does a triangle have? | three | 3
How many sides does a hexagon have? | six | 6
How many sides does a pentagon have? | five | 5
How many degrees are there in a right angle? | 90 | ninety
How many letters are there in the English alphabet? | 26 | twenty-six
How many players are on a soccer team on the field? | eleven | 11
How many strings does a standard guitar have? | six | 6
How many strings does a violin have? | four | 4
How many continents are there? | seven | 7
How many centimetres are there in a metre? | 100 | hundred
How many grams are there in a kilogram? | 1000 | 1,000 | thousand
How many eggs are there in a dozen? | twelve | 12
How many wheels does a bicycle have? | two | 2
Which month comes after June? | July
Which month comes before March? | February
Which day comes after Friday? | Saturday
Which day comes before Tuesday? | Monday
Which season comes after winter? | spring
Which season comes before winter? | autumn | fall
What is the opposite of hot? | cold | cool
What is the opposite of early? | late
What is the opposite of heavy? | light
What is the opposite of empty? | full
What is the opposite of ancient? | modern | new
What is the opposite of brave? | cowardly | timid | coward | fearful | afraid
What is the plural of mouse? | mice
What is the plural of child? | children
What is the plural of goose? | geese
What is the past tense of go? | went
What is the past tense of write? | wrote
What is the past tense of buy? | bought
What colour do you get from blue and yellow paint? | green
What colour do you get from red and white paint? | pink
What colour do you get from red and blue paint? | purple | violet
What colour is a ripe banana? | yellow
What colour is an emerald? | green
What colour is the sky on a clear day? | blue
Who wrote the play Romeo and Juliet? | Shakespeare
Who wrote the novel Oliver Twist? | Dickens
Who wrote the novel Pride and Prejudice? | Austen
Who wrote the Harry Potter books? | Rowling
Who painted the Mona Lisa? | Leonardo | da Vinci
Who painted The Starry Night? | van Gogh
Who developed the theory of relativity? | Einstein
Who was the first president of the United States? | Washington
Who was the first person to walk on the Moon? | Armstrong
Who is credited with inventing the telephone? | Bell
Who proposed the theory of evolution by natural selection? | Darwin
Who discovered penicillin? | Fleming
In which year did the Second World War end? | 1945
In which year did people first land on the Moon? | 1969
Which language is mainly spoken in Brazil? | Portuguese
Which language is mainly spoken in Mexico? | Spanish
Which language is mainly spoken in Austria? | German
Which language is mainly spoken in Egypt? | Arabic
What currency is used in Japan? | yen
What currency is used in the United Kingdom? | pound | pounds | sterling
What currency is used in Germany? | euro | euros
What currency is used in India? | rupee | rupees
From which fruit is wine made? | grape | grapes
From which milk product is butter made? | cream
Which grain is sushi made with? | rice
What drink is made from roasted beans and served hot in the morning? | coffee
What is the main ingredient of bread? | flour | wheat
What is the main ingredient of guacamole? | avocado | avocados
What do you call a person who flies an aeroplane? | pilot | aviator
What do you call a doctor for animals? | veterinarian | vet
What do you call a person who bakes bread? | baker
What do you call a scientist who studies stars? | astronomer | astrophysicist
What instrument do we use to measure temperature? | thermometer
What instrument do we use to see very small things? | microscope
What instrument points to the north? | compass
What do you wear on your head to ride a bike safely? | helmet
What game is played with a king, a queen and pawns on a board? | chess
In which sport do players hit a shuttlecock? | badminton
In which sport do you throw a ball through a hoop? | basketball
"""
