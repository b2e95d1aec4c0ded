"""English words in their variants: accents, British and American spelling, digits, plurals, verb forms. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

__all__ = ["SYNONYMS", "plain_word", "plurals", "singulars", "standard_word", "verb_bases", "verb_forms"]

_WORD_PAIRS = """
saint=st mount=mt axe=ax axes=ax disc=disk discs=disks licence=license defence=defense offence=offense bbq=barbecue
barbeque=barbecue racoon=raccoon racoons=raccoons waggon=wagon gipsy=gypsy storey=story phial=vial mollusc=mollusk
molluscs=mollusks chilli=chili chillies=chilies caviare=caviar cosy=cozy kerb=curb whisky=whiskey pickaxe=pickax
artefact=artifact artefacts=artifacts vw=volkswagen chevy=chevrolet omelette=omelet omelettes=omelets
programme=program programmes=programs yoghurt=yogurt yoghurts=yogurts tv=television tvs=televisions
crawfish=crayfish tyre=tire tyres=tires judgement=judgment ageing=aging vice=vise cheque=check cheques=checks
gramme=gram draught=draft draughts=drafts cigaret=cigarette gauge=gage oesophagus=esophagus foetus=fetus
sulphur=sulfur towards=toward backwards=backward forwards=forward
jumper=sweater jumpers=sweaters
"""

_LETTER_PAIRS = """
grey=gray colour=color armour=armor harbour=harbor odour=odor vapour=vapor flavour=flavor favour=favor honour=honor
neighbour=neighbor behaviour=behavior labour=labor humour=humor savour=savor parlour=parlor tumour=tumor
rumour=rumor splendour=splendor vigour=vigor plough=plow theatre=theater centre=center fibre=fiber litre=liter
metre=meter sabre=saber calibre=caliber spectre=specter sceptre=scepter lustre=luster ochre=ocher sombre=somber
aeroplane=airplane aluminium=aluminum moustache=mustache pyjama=pajama jewellery=jewelry jewell=jewel
catalogue=catalog dialogue=dialog analogue=analog chequer=checker doughnut=donut woollen=woolen travell=travel
panell=panel modell=model labell=label levell=level tunnell=tunnel archaeo=archeo palaeo=paleo
encyclopaed=encycloped mediaeval=medieval orthopaed=orthoped paediatr=pediatr anaesth=anesth manoeuvr=maneuver
gynaeco=gyneco haemo=hemo tranquill=tranquil mould=mold signall=signal enamell=enamel carousell=carousel
"""

_VERB_TABLE = """
blow:blew/blown break:broke/broken build:built catch:caught climb:clomb cut:cut dive:dove draw:drew/drawn
drink:drank/drunk drive:drove/driven eat:ate/eaten fall:fell/fallen feed:fed fight:fought fly:flew/flown hang:hung
hit:hit hold:held lie:lay/lain make:made put:put read:read ride:rode/ridden ring:rang/rung run:ran sing:sang/sung
sit:sat sleep:slept spin:spun stand:stood sweep:swept swim:swam/swum swing:swung take:took/taken throw:threw/thrown
weave:wove/woven wear:wore/worn write:wrote/written shoot:shot shake:shook/shaken give:gave/given lead:led bend:bent
bind:bound grind:ground
"""

_NUMBERS = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve".split(),  # noqa: SIM905
        map(str, range(13)),
        strict=True,
    )
)

# Whole words in another spelling, or abbreviated.
_WORDS = _NUMBERS | dict(pair.split("=") for pair in _WORD_PAIRS.split())

# British and American letters within words; the right side is what both become.
_LETTERS = tuple(tuple(pair.split("=")) for pair in _LETTER_PAIRS.split())
_ISE = re.compile(r"(?<=\w{3})(i|y)s(?=(?:e|ed|es|ing|ation|ations|er|ers)$)")

#: Names of the same thing; a class that has one of them may be called by the others.
SYNONYMS = tuple(
    tuple(name.strip() for name in group.split("|"))
    for group in """
    hippopotamus|hippo
    rhinoceros|rhino
    chimpanzee|chimp
    crocodile|croc
    alligator|gator
    orangutan|orang utan
    cougar|puma|mountain lion
    killer whale|orca
    reindeer|caribou
    groundhog|woodchuck
    ladybug|ladybird|ladybird beetle|lady beetle
    rooster|cockerel
    budgerigar|budgie
    firefly|lightning bug
    daddy longlegs|harvestman
    labrador retriever|labrador
    german shepherd|german shepherd dog|alsatian
    yorkshire terrier|yorkie
    airedale|airedale terrier
    newfoundland|newfoundland dog
    chesapeake bay retriever|chesapeake
    bedlington terrier|bedlington
    sealyham terrier|sealyham
    dandie dinmont|dandie dinmont terrier
    west highland white terrier|west highland terrier|westie
    staffordshire bull terrier|staffie
    saint bernard|saint bernard dog
    siberian husky|husky
    great pyrenees|pyrenean mountain dog
    chow|chow chow
    lhasa|lhasa apso
    siamese|siamese cat
    persian|persian cat
    sphynx|sphynx cat
    maine coon|maine coon cat
    egyptian mau|mau
    motorcycle|motorbike
    bicycle|bike|pushbike
    automobile|motorcar|car
    truck|lorry
    tram|streetcar|tramcar
    limousine|limo
    taxi|taxicab|taxi cab
    airplane|aeroplane
    refrigerator|fridge
    television|television set|tv set
    tv monitor|television monitor
    automated teller machine|automatic teller machine|atm|atm machine|cash machine|cashpoint
    sport utility vehicle|sports utility vehicle|suv
    recreational vehicle|rv|motorhome
    all terrain vehicle|atv|quad bike
    unmanned aerial vehicle|uav|drone
    personal computer|pc
    compact disc|cd
    compact disc player|cd player
    digital video disc player|dvd player|dvd
    closed circuit television camera|cctv camera|security camera
    liquid crystal display|lcd|lcd screen
    light emitting diode|led
    usb stick|usb drive|flash drive|thumb drive
    telephone|phone
    cell phone|cellphone|cellular telephone|cellular phone|mobile phone|smartphone
    microphone|mic
    saxophone|sax
    drum set|drum kit
    violoncello|cello
    gymnasium|gym
    laboratory|lab
    photograph|photo
    refectory|dining hall
    cinema|movie theater
    gas station|petrol station|filling station
    parking lot|car park
    apartment building|block of flats|apartment block
    crosswalk|pedestrian crossing|zebra crossing
    sidewalk|pavement
    trash can|garbage can|dustbin|rubbish bin|garbage bin|trash bin
    diaper|nappy
    stroller|pushchair
    baby carriage|pram
    wrench|spanner
    couch|sofa
    t shirt|tee shirt
    eggplant|aubergine
    zucchini|courgette
    cilantro|coriander leaves
    arugula|rocket salad
    hamburger|burger
    french fries|fries
    popsicle|ice lolly|ice pop
    cotton candy|candy floss
    macaroni and cheese|mac and cheese|mac n cheese|mac cheese
    spaghetti bolognese|spag bol
    brassiere|bra
    pajamas|pjs
    push ups|press ups
    push up|press up
    horse riding|horseback riding
    tic tac toe|noughts and crosses
    soccer|association football
    mercedes benz|mercedes
    """.strip().splitlines()
)

_IRREGULAR = {
    "child": "children", "foot": "feet", "goose": "geese", "louse": "lice", "man": "men", "mouse": "mice",
    "ox": "oxen", "person": "people", "tooth": "teeth", "woman": "women", "fungus": "fungi", "radius": "radii",
    "alga": "algae", "die": "dice", "quiz": "quizzes", "passerby": "passersby", "loaf": "loaves", "index": "indices",
}  # fmt: skip

_REGULAR = {plural: singular for singular, plural in _IRREGULAR.items()}

# Latin and Greek: ending of the singular, of the plural, and the fewest letters of such a word.
_CLASSICAL = (("us", "i", 5), ("is", "es", 4), ("um", "a", 5), ("a", "ae", 5), ("ex", "ices", 5), ("ix", "ices", 5),
              ("eau", "eaux", 5))  # fmt: skip

_IRREGULAR_VERBS = {
    base: frozenset(forms.split("/")) for base, _, forms in (entry.partition(":") for entry in _VERB_TABLE.split())
}


@lru_cache(maxsize=65536)
def plain_word(word: str) -> str:
    """A folded word without the accents of Latin letters; marks of other scripts carry meaning."""
    if word.isascii():
        return word
    kept = list[str]()
    for char in unicodedata.normalize("NFD", word):
        if not (kept and unicodedata.combining(char) and kept[-1].isascii()):
            kept.append(_LIGATURES.get(char, char))
    return unicodedata.normalize("NFC", "".join(kept))


_LIGATURES = {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}


@lru_cache(maxsize=65536)
def standard_word(word: str) -> str:
    """One spelling for all spellings of a folded word: no accents, American, numbers in digits."""
    word = plain_word(word)
    known = _WORDS.get(word)
    if known is not None:
        return known
    if len(word) > 3:
        for british, american in _LETTERS:
            if british in word:
                word = word.replace(british, american)
        word = _ISE.sub(lambda match: f"{match[1]}z", word)
    return word


def plurals(word: str) -> Iterator[str]:
    """What the plural of an English word may be."""
    yield from (word + "s", word + "es")
    for singular, plural in _IRREGULAR.items():
        if word.endswith(singular) and len(word) - len(singular) != 1:
            yield word.removesuffix(singular) + plural
    for singular, plural, letters in _CLASSICAL:
        if word.endswith(singular) and len(word) >= letters:
            yield word.removesuffix(singular) + plural
    if word.endswith("y"):
        yield word[:-1] + "ies"
    if word.endswith(("f", "fe")):
        yield word.removesuffix("e")[:-1] + "ves"


def singulars(word: str) -> Iterator[str]:
    """What the singular of an English word may be, if it is a plural."""
    if word in _REGULAR:
        yield _REGULAR[word]
    for singular, plural, letters in _CLASSICAL:
        if word.endswith(plural) and len(word) - len(plural) + len(singular) >= letters and plural != "a":
            yield word.removesuffix(plural) + singular
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        yield word[:-1]
        if word.endswith("es"):
            yield word[:-2]
        if word.endswith("ies"):
            yield word[:-3] + "y"
        if word.endswith("ves"):
            yield from (word[:-3] + "f", word[:-3] + "fe")


def verb_bases(word: str) -> tuple[str, ...]:
    """The verbs of which a word may be the -ing form."""
    stem = word.removesuffix("ing")
    if stem == word or len(stem) < 2:
        return ()
    doubled = len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "aeiou"
    return (stem, stem + "e", *((stem[:-1],) if doubled else ()), *((stem[:-1] + "ie",) if stem.endswith("y") else ()))


def verb_forms(base: str) -> frozenset[str]:
    """The forms of a verb other than the base: third person, past, participles."""
    stem = base.removesuffix("e") if not base.endswith(("ee", "oe", "ye")) else base
    forms = {base + "s", stem + "ing", stem + "ed"} | _IRREGULAR_VERBS.get(base, frozenset())
    if base.endswith(("s", "x", "z", "ch", "sh", "o")):
        forms.add(base + "es")
    if base.endswith("y") and base[-2:-1] not in tuple("aeiou"):
        forms |= {base[:-1] + "ies", base[:-1] + "ied"}
    if re.search(r"[^aeiou][aeiou][bdfgklmnprtvz]$", base):
        forms |= {base + base[-1] + "ing", base + base[-1] + "ed"}
    if base.endswith("ie"):
        forms.add(base[:-2] + "ying")
    return frozenset(forms)
