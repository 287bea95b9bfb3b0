r"""verify.py: is this answer the gold answer?  A rule-based verifier of mathematical answers in LaTeX.

    extract_answer(response)   what stands in the last complete \boxed{...} of the solution
    canonical(answer)          what an answer means, as a hashable `Reading`: built once, compared many times
    equivalent(gold, answer)   do two readings agree?
    reward(response, gold)     1.0 or 0.0: what reinforcement learning needs
    group(answers)             a class label for each answer: what voting needs
    checkable(gold)            can this gold be earned at all?

How. An answer is cut into tokens. Its outer shape (list, set, tuple, interval, matrix, equation, inequality,
text ...) becomes a nested tuple. Each formula inside is *calculated* while it is parsed: exactly, in
fractions, as far as that goes, and to 300 digits beyond; with variables at fixed rational points, and two
formulas that agree at all of them are the same (polynomial identity testing). An unknown function's value, of
the f in f(2), is a fixed random number. What cannot be read is text, and equals only the same text.

Why it is safe with any input. No `eval`, no computer algebra: only the calculator touches an answer, and each
operation is bounded *before* it is done, by length, depth, digits, exponents, domain and total work. So
nothing hangs, no timeout is needed, and no verdict depends on the machine or its load.

Leniencies, all of them: known units, counted things, currency, degree and percent signs beside a number are
dropped (25\% is 25, not 0.25; 5 boys are not 5); the name in `x = 5`, `f(n) = 2n+1`, `|AB| = 5` or `A(1,2)`
is optional, but two names must agree; `x = 1, y = 2` is (1,2); `A. 5` is the choice A; a list has no order, a
set of one is its member; words have neither case nor font; `\log` is natural; 2^10 is 2^{10}; C_5^2 is a
number of combinations, A_5^2 and P_5^2 of permutations; a last + C, + c or + K beside no a, b, A, B is an
arbitrary constant, and so are C_1, c_1 beside waves; k, l, m, n, N are positive integers, said or not, other
variables real; Chinese punctuation is read. Where the rules leave a doubt two answers differ: a false "right"
gets exploited in training, a false "wrong" costs a sample. So a letter before a bracket is a factor only
where that is plain: n(n+1) and a(b+c) are products, y(2) and f(a+b) are not. Left out: numbers in words, sums
and products with bounds, several units (3 h 20 min), cases in another order, equations times a variable.
"""
import math
import operator
import re
import threading
import zlib
from collections import Counter
from fractions import Fraction
from functools import lru_cache, partial, reduce
from itertools import accumulate, product
from typing import NamedTuple
import mpmath  # comes with sympy; nothing else of sympy is needed

MAX_TAIL = 1 << 17  # characters at the end of a response in which its answer is looked for
MAX_LENGTH = 2000  # characters: a longer answer equals only itself
MAX_PROSE = 15  # words: a gold that says more is no answer
MAX_DEPTH = 20  # brackets, fractions, radicals and functions inside each other
MAX_BITS = 1 << 15  # of an exact number's numerator and denominator: 9,864 digits
MAX_WORK = 50_000  # of one answer, in steps of about a microsecond
MAX_MAGNITUDE = 1 << 16  # an inexact number lies between 2^-65536 and 2^65536
MAX_PIECES = 10_000  # pairs of intervals that one intersection looks at
BITS, KEY_BITS = 1024, 400  # of an inexact number: bits calculated, bits that two equal numbers share
mp = mpmath.MPContext()  # a context of our own: nobody else's precision matters
mp.prec = BITS
LOCK = threading.Lock()  # mpmath changes its precision while it works: one thread at a time
class Refused(Exception):
    """Not a value, or too costly a one. Never leaves this file: the answer is then read as text."""
def refuse(wrong, why: str):
    if wrong: raise Refused(why)
class Reading(NamedTuple):
    """What an answer means."""
    value: object  # a Fraction, an infinity, or a tuple that begins with its type; None if there is none
    equation: object = None  # of an equation: left minus right, up to a constant factor
    name: str = ""  # what stands before the value: the x of `x = 5` and `x > 5`, the f ( n ) of `f(n) = 2n`
    region: bool = False  # of an inequality: "or" unites such values, "and" intersects

# --------------------------------------------------------------------------------------- What the file is for
def extract_answer(response: str) -> str | None:
    r"""The content of the \boxed{...} that closes last, or None. What stands before the end of the thoughts
    does not count, nor before the last `MAX_TAIL` characters. Braces must balance, but for `\{` and `\}`."""
    tail, answer, opened = solution(response)[-MAX_TAIL:], None, []
    for brace in re.finditer(r"(\\{1,2}boxed\s{0,9})?\{|\\.|\}", tail, re.S):
        if brace[1] or brace[0] == "{": opened.append(brace.end() if brace[1] else None)
        elif brace[0] == "}" and opened and (start := opened.pop()) is not None:
            answer = tail[start : brace.start()]
    return answer
def solution(response: str) -> str:
    """What follows the thoughts, however their end is written."""
    for end in ("</think>", "[/THINK]", "</seed:think>", "◁/think▷"):
        response = response.rpartition(end)[2]
    return response

def canonical(answer: str) -> Reading | None:
    """What an answer means: a hashable, or None for an empty answer. Never raises on a `str`."""
    if len(answer) > MAX_LENGTH: return Reading(("unread", answer)) if not answer.isspace() else None
    return cached_reading(answer)

def equivalent(gold: str, answer: str) -> bool:
    """Are two answers the same? Symmetric; reflexive, but for empty answers, which equal nothing. Equations
    are compared as equations, all else by value, and two names must agree: x=5 and y=5 are 5."""
    first, second = canonical(gold), canonical(answer)
    if first is None or second is None: return False
    if first.equation is not None and second.equation is not None: return first.equation == second.equation
    named = first.name and second.name and first.name != second.name
    return not named and first.value is not None and first.value == second.value

def reward(response: str, gold: str, strict: bool = False) -> float:
    r"""1.0 if the last complete \boxed{...} of a response holds the gold answer (if strict: as its only)."""
    if strict and solution(response).count("\\boxed") != 1: return 0.0
    answer = extract_answer(response)
    return float(answer is not None and equivalent(gold, answer))
def group(answers: list[str | None]) -> list[int | None]:
    """For each answer the index of the first one in its class, None where there is no answer. A class is what
    `equivalent` joins, directly or through other answers, so it does not depend on their order."""
    readings = [None if answer is None else canonical(answer) for answer in answers]
    loose = {(reading.value, reading.name) for reading in readings if reading and reading.equation is None}
    marks = []  # of each reading, what it shares with those that are equal to it
    for value, equation, name, _ in (reading or Reading(None) for reading in readings):
        marks.append({(value, ""), (value, name)} & loose | {("equation", equation)} - {("equation", None)})
    labels = [None if reading is None else i for i, reading in enumerate(readings)]
    while True:
        pairs = [(label, mark) for label, own in zip(labels, marks) for mark in own]
        least = {mark: label for label, mark in sorted(pairs, key=operator.itemgetter(0), reverse=True)}
        joined = [min((least[mark] for mark in own), default=None) for own in marks]
        if joined == labels: return labels
        labels = joined

def checkable(gold: str) -> bool:
    """Can this gold be earned, and would that mean anything? Not if it is empty, too long, no answer, a dict
    as text, or prose: a sentence, an argument, more than two words that are no name, set or phrase."""
    if canonical(gold) is None or len(gold) > MAX_LENGTH or DICTIONARY.match(gold): return False
    text = " ".join(unwrap(gold).split()).strip(" .:!?()[]<>*_-")
    if text == "NA" or text.lower() in NO_ANSWERS or ARGUMENT.search(text.lower()): return False
    words = re.findall(r"[A-Za-z']+", re.sub(r"\\[A-Za-z]+", " ", text))
    words = [word for word in words if word not in ("the", "a", "an", "and", "of")]
    only_words = not re.search(r"[0-9=<>^_+/|]|\\(?!text|math)|\b[b-zB-HJ-Z]\b", text)
    name = all(word[0].isupper() for word in words)
    known = name or len(words) <= 2 or PHRASE.match(text) or text.lower() in WORDS
    if only_words and not known: return False
    long = sum(len(word) > 1 for word in words)
    return long <= 3 or long <= MAX_PROSE and not gold.rstrip("$ \n").endswith(".")

# ------------------------------------------------------------------------------------- The shape of an answer
@lru_cache(maxsize=1024)
def cached_reading(answer: str) -> Reading | None:
    tokens = tokenize(OPTION.sub(r"\1\2", unwrap(answer.translate(UNICODE))))
    if not tokens: return None
    depths = list(accumulate(map(weight, tokens)))
    with LOCK:
        try:
            refuse(depths[-1] or min(depths) < 0 or max(depths) > MAX_DEPTH, "brackets do not match")
            return read_list(tokens, Calculator(tokens))
        except Refused: return Reading(read_text(tokens))
        except Exception:  # none is known; but a run of days must not end on an odd answer: read it as itself
            return Reading(("unread", answer))
def unwrap(answer: str) -> str:
    r"""An answer without what ends a sentence, nor dollars, quotes, \boxed{}, \text{} or braces around it."""
    for _ in range(MAX_DEPTH):
        answer = EDGES.sub("", answer)
        match = WRAPPER.fullmatch(answer)
        content = next(filter(None, match.groups()), "") if match else ""
        braces = re.findall(r"\\.|[{}]", content, re.S)
        depths = accumulate((brace == "{") - (brace == "}") for brace in braces)
        if not match or min(depths, default=0) < 0: break  # {1}{2} is no wrapper
        answer = content
    return answer
@lru_cache(maxsize=4096)
def weight(token: str) -> int:
    return WEIGHTS.get(token, 0) + token.startswith("\\begin") - token.startswith("\\end")
def split(tokens: list[str], separators) -> tuple[list[list[str]], list[str]]:
    """The parts of a token list between the separators outside all brackets, and those separators."""
    if not {*separators}.intersection(tokens): return [tokens], []
    depths = accumulate(map(weight, tokens))
    found = [i for i, depth in enumerate(depths) if depth == 0 and tokens[i] in separators]
    edges = [-1, *found, len(tokens)]
    return [tokens[a + 1 : b] for a, b in zip(edges, edges[1:])], [tokens[i] for i in found]
def enclosed(tokens: list[str]) -> bool:
    """Does the first token open a bracket that only the last one closes?"""
    depths = list(accumulate(map(weight, tokens)))
    return len(tokens) > 1 and depths[-1] == 0 and min(depths[:-1]) > 0
def collection(members) -> object:
    """Members in no order, but counted; one alone is itself."""
    members = list(members)
    return members[0] if len(members) == 1 else ("list", frozenset(Counter(members).items()))
def members(value) -> list:
    return list(Counter(dict(value[1])).elements()) if kind(value) == "list" else [value]
def read_list(tokens: list[str], calc: "Calculator") -> Reading:
    """A whole answer, or what stands in the braces of a set: one item or several."""
    rows, between = split(tokens, (";", "\\or"))  # x = 1, y = 2; x = 3, y = 4
    if between and all("," in row and ("=" in row or "\\or" not in between) for row in rows):
        points = [read_list(row, calc) if "=" in row else read_item(["(", *row, ")"], calc) for row in rows]
        if {kind(reading.value) for reading in points} == {"tuple"}: return read_several(points, [])
    parts, found = split(unstack(tokens), (",", ";", "\\and", "\\or", "\\row"))
    if found in ([","], [";"]) and not parts[1]: parts, found = parts[:1], []  # "5,"; but "1, 2," breaks off
    readings, left = [], []
    modulus = parts[-1][parts[-1].index("\\mod") :] if "\\mod" in parts[-1] else []
    for part in parts:
        point = part[:1] and part[0] in CAPITALS and "," in part and enclosed(part[1:]) and part[1] == "("
        if point and not any(map(is_name, part[1:])): part = [part[0], "=", *part[1:]]  # A(1, 2)
        sides, relations = split(part, RELATIONS)
        if modulus and "\\mod" not in part and "=" not in part: part = part + modulus  # 0, 1 (mod 4)
        if relations in (["="], ["\\equiv"]) and label(sides[0]): left = sides[0] + relations
        part = part if relations else left + part  # x = 1, 2: the name holds for what follows
        readings += dict.fromkeys(read_item(item, calc) for item in spell_signs(part))
    return readings[0] if len(readings) == 1 else read_several(readings, found)
def read_several(readings: list[Reading], found: list[str]) -> Reading:
    """Several items: a list, a region, or of different names a point: x = 1, y = 2."""
    values, equations, names, regions = zip(*readings)
    equation = collection(equations) if None not in equations else None
    if len({*names}) == 1 and all(regions) and (joined := combine(values, found)):
        return Reading(region(joined), name=names[0], region=True)
    value, name, known = None, "", None not in values
    if known and len({*names}) == 1: value, name = collection(values), names[0]
    refuse(value is None and "\\or" in found, "x = 1 or y = 2")
    if known and len({*names}) == len(names) > 1:
        letters = {*map(letter, names)}
        if len(letters) == 1 or {*map(kind, values)} == {"tuple"}:  # x_1 = 2, x_2 = 3 or A(1, 2), B(3, 4)
            value, name = collection(values), min(letters) if len(letters) == 1 else ""
        elif all(map(is_name, names)):
            equation = ("point", "()", len(names), frozenset(zip(names, values)))
            names, values = zip(*sorted(zip(names, values), key=operator.itemgetter(0)))
            value, name = ("tuple", "()", values), f"( {' , '.join(names)} )"
    refuse(value is None and equation is None, "no list")
    return Reading(value, equation, name)
def combine(values, found: list[str]) -> list:
    """Regions of one name: united by "or", cut by "and", and by commas if a bounded interval is left."""
    if {*found} == {"\\or"}: return reduce(operator.add, map(cuts, values))
    common = reduce(intersection, map(cuts, values))
    interval = len(common) == 1 and math.isfinite(common[0][0][0]) and math.isfinite(common[0][1][0])
    return common if {*found} == {"\\and"} or {*found} == {","} and interval else []
def kind(value) -> str: return value[0] if isinstance(value, tuple) else ""
def unstack(tokens: list[str]) -> list[str]:
    """The rows of an environment that only sets them below each other, as a list; one cell as itself."""
    if not (tokens and tokens[0] in COLUMNS and enclosed(tokens)): return tokens
    inside = [token for token in tokens[1:-1] if token != "&" or tokens[0] not in ALIGNMENTS]
    rows = [row for row in split(inside, ("\\row",))[0] if row]
    if "&" in inside or len(rows) > 1 and "array" in tokens[0]: return tokens  # cases, or a column vector
    return [token for row in rows for token in (",", *row)][1:]
def spell_signs(tokens: list[str]) -> list[list[str]]:
    r"""The items that \pm stands for: each sign chooses for itself."""
    signs = [i for i, token in enumerate(tokens) if token == "\\pm"]
    if tokens[:1] == ["\\{"] and enclosed(tokens): return [tokens]
    refuse(len(signs) > 4, "too many signs")
    choices = [dict(zip(signs, choice)) for choice in product("+-", repeat=len(signs))]
    return [[choice.get(i, token) for i, token in enumerate(tokens)] for choice in choices]
def read_item(tokens: list[str], calc: "Calculator") -> Reading:
    """A value, an equation, a chain of equal values, a congruence, an inequality or a membership."""
    calc.spend(60)
    sides, relations = split(tokens, RELATIONS)
    if "\\mod" in tokens: return read_congruence(tokens, calc)
    if not relations or relations == ["="] and not sides[0]:  # "= 5" goes on where the question ends
        return Reading(read_value(sides[-1], calc))
    if {*relations} == {"="}:
        return read_equation(*sides, calc) if len(sides) == 2 else read_chain(sides, calc)
    if relations == ["\\in"] and label(sides[0]):
        return Reading(read_value(sides[1], calc), name=label(sides[0]))
    refuse({*relations} - {*FLIPPED}, "not a relation that is read")
    return read_inequality(sides, relations, calc)
def label(tokens: list[str]) -> str:
    """What may stand before a value as its name: x, f(2), (x, y), AB, angle ABC, |AB|, P(X > 2); else ""."""
    text = " ".join(token for token in tokens if token not in "{}")
    return text.removeprefix("m ") if LABEL.fullmatch(text) else ""
def read_equation(left: list[str], right: list[str], calc: "Calculator") -> Reading:
    """Both as an equation and, if one side is a mere name, as the value of the other."""
    value, name = None, ""
    left, right = drop_units(left), drop_units(right)
    for side, other in ((right, left), (left, right)):
        own = side[:1] if is_name(side[0] if side else "") else filter(is_name, side)  # the f of f(n), not n
        if label(side) and not {*own} & {*other}: value, name = read_value(other, calc), label(side)
    try: equation = calc.ratio(left, right)
    except Refused: equation = (name, value) if name and kind(value) in ("", "formula") else None
    if kind(value) == "text": equation = (name, value)
    if name[:1] == "(" and kind(value) == "tuple":  # (x, y) = (1, 2) is (y, x) = (2, 1)
        equation = ("point", value[1], len(value[2]), frozenset(zip(name[2:-2].split(" , "), value[2])))
    no_unknown = value is None and equation is None
    return read_chain([left, right], calc) if no_unknown else Reading(value, equation, name)
def read_chain(sides: list[list[str]], calc: "Calculator") -> Reading:
    """2 + 4 = 6: a value, if all sides have it; x = y = 2: a point. Of x = 3 = 6/2 nobody says what x is."""
    if len(sides) > 2 and all(map(label, sides[:-1])) and not label(sides[-1]):
        return read_several([read_equation(side, sides[-1], calc) for side in sides[:-1]], [])
    values = {read_value(side, calc) for side in sides}
    unknown = any(label(side) and side[0] not in FUNCTIONS for side in sides)
    refuse(len(values) > 1 or unknown, "an equation without unknown, or a false one")
    return Reading(values.pop())
def read_congruence(tokens: list[str], calc: "Calculator") -> Reading:
    r"""n \equiv 1 \pmod 4, or without its name: a residue, which is no number."""
    at = tokens.index("\\mod")
    sides, relations = split(tokens[:at], ("\\equiv", "="))
    name = label(sides[0]) if relations else ""
    residue, size = whole(read_value(sides[-1], calc)), whole(read_value(tokens[at + 1 :], calc))
    refuse(size < 1 or len(sides) > 2 or relations and not name, "not a congruence that is read")
    value = ("residue", residue % size, size)
    return Reading(value, ("congruence", name, value) if name else None, name)
def read_inequality(sides: list[list[str]], relations: list[str], calc: "Calculator") -> Reading:
    """x > 1, 2 <= x < 5, x != 0: intervals that have a name instead of brackets; or a < b."""
    if {*relations} <= {">", "\\ge"}:  # 1 < x
        sides, relations = sides[::-1], [FLIPPED[relation] for relation in relations[::-1]]
    closed = [int(relation == "\\le") for relation in relations]
    if len(sides) == 3:
        name, low, high = label(sides[1]), *(read_value(side, calc) for side in sides[::2])
        refuse(not name or {*relations} - {"<", "\\le"}, "not an interval")
        return Reading(("tuple", "(["[closed[0]] + ")]"[closed[1]], (low, high)), name=name, region=True)
    refuse(len(sides) > 2, "a long chain")
    (left, right), relation = sides, relations[0]
    try: equation = (relation, calc.ratio(left, right, directed=relation != "\\ne"))
    except Refused: equation = None
    for side, other, upper in ((left, right, True), (right, left, False)):
        bound = read_value(other, calc) if label(side) else None
        if not isinstance(bound, Fraction): continue
        below, above = (LINE[0], (bound, closed[0])), ((bound, 1 - closed[0]), LINE[1])
        pairs = [below, above] if relation == "\\ne" else [below if upper else above]
        return Reading(region(pairs), equation, label(side), region=True)
    refuse(equation is None or equation[1] is None, "an inequality without unknown")
    return Reading(None, equation)
def read_value(tokens: list[str], calc: "Calculator"):
    tokens = drop_units(tokens)
    refuse(not tokens, "empty")
    first, last, inside = tokens[0], tokens[-1], tokens[1:-1] if enclosed(tokens) else []
    if any(token[0] == '"' for token in tokens) and not inside or is_word(tokens): return read_text(tokens)
    if first == "\\angle" or re.fullmatch(r"\d+( : \d+)+", " ".join(tokens)): return read_text(tokens)
    if tokens in (["\\emptyset"], ["\\{", "\\}"]): return collection([])
    if tokens == ["\\reals"]: return region([LINE])
    if last == "\\infty" and tokens[:-1] in ([], ["+"], ["-"]): return -INFINITY if first == "-" else INFINITY
    parts, found = split(tokens, SET_OPERATIONS)
    if len({*found}) == 1:
        sets = [cuts(read_value(part, calc)) for part in parts]
        return region(reduce(SET_OPERATIONS[found[0]], sets))
    if inside and first.startswith("\\begin"): return read_matrix(first, inside, calc)
    if inside and first == "\\{": return read_set(inside, calc)
    if inside and first in ("(", "[", "\\langle"):
        parts, found = split(inside, (",", ";"))
        if found:
            brackets = "()" if first == "\\langle" else first + last
            return ("tuple", brackets, tuple(read_value(part, calc) for part in parts))
    if inside and (first + last in ("()", "{}") or inside[0].startswith("\\begin")):
        return read_value(inside, calc)
    bare = "".join(token for token in tokens if token not in "{}")
    if based := re.fullmatch(r"\(?([0-9][0-9A-Z]*)\)?_([0-9]+)", bare):
        return read_based(based[1], int(based[2]))
    if len(tokens) == 1 and first in CHOICES: return ("text", first.lower())
    return calc.key(calc.value(tokens))
def drop_units(tokens: list[str]) -> list[str]:
    r"""Without the known unit after a value: 15 \text{cm}^2, not 10 AM; or the currency before it."""
    if tokens and tokens[0].strip('"') in MONEY: tokens = tokens[1 + (tokens[1:2] == ["."]) :]
    if tokens[-1:] == ["\\sec"]: tokens = [*tokens[:-1], '"sec']
    first = next((i for i, token in enumerate(tokens) if token[0] == '"'), 0)
    unit = " ".join(tokens[first:]).replace("ordered pair", "tuple")
    if not first or not UNIT.fullmatch(unit): return tokens
    words = re.findall("[a-z]+", unit)
    units = UNITS | MONEY | NOUNS
    known = all({word, word.removesuffix("s"), word.removesuffix("es")} & units for word in words)
    counted = words[-1] not in UNITS | MONEY and any(map(is_name, tokens[:first]))  # k integer
    known = known and words[0] not in NEVER_FIRST and words[-1] not in NEVER_LAST and not counted
    return tokens[:first] if known else tokens
def is_word(tokens: list[str]) -> bool:
    """A run of capitals, as BAC is not ABC; one of small letters out of order; a chemical formula."""
    run = CAPITALS.issuperset(token.rstrip("'") for token in tokens)
    small = SMALL.issuperset(tokens) and tokens != sorted(tokens)
    atoms = all(re.fullmatch("[A-Z](_[0-9])?", token) for token in tokens)
    return len(tokens) > 1 and (run or small or atoms and len({token[0] for token in tokens}) > 1)
def read_text(tokens: list[str]):
    """Words, in any font and case. Without words, or beside commands, case may tell variables apart."""
    run = CAPITALS.issuperset(token.rstrip("'") for token in tokens) or SMALL.issuperset(tokens)
    text = ("" if run else " ").join(token.removeprefix('"') for token in tokens)
    text = text.lower() if run or any(token[0] == '"' for token in tokens) and "\\" not in text else text
    return read_value(WORDS[text].split(), None) if text in WORDS else ("text", text)
def read_set(inside: list[str], calc: "Calculator"):
    r"""What stands in the braces of a set: its members, each once, or \{x : x > 1\}."""
    head, *condition = split(inside, (":", "|"))[0]
    if len(condition) == 1 and head[1:] in ([], ["\\in", "\\reals"]): inside = condition[0]
    reading = read_list(inside, calc)
    if condition and reading.region and [reading.name] == head[:1]: return reading.value
    nested = inside == ["\\emptyset"] or inside[:1] == ["\\{"] and enclosed(inside)
    refuse(condition or reading.name or reading.value is None or nested, "a set of equations, or of one set")
    return collection(dict.fromkeys(members(reading.value)))
def read_matrix(environment: str, tokens: list[str], calc: "Calculator"):
    rows = [split(row, ("&",))[0] for row in split(tokens, ("\\row",))[0] if row]
    named = re.search(r"\{([pbB]|small)?matrix\}|\{array\}", environment)
    refuse(not named or len({len(row) for row in rows}) != 1, "not a matrix")
    return ("matrix", tuple(tuple(read_value(cell, calc) for cell in row) for row in rows))
def read_based(digits: str, base: int):
    """A number in a base keeps its base: 4210_5 is neither 4210_6 nor 555. Base ten is the usual one."""
    refuse(not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in digits), "no number in this base")
    return ("base", base, int(digits, base)) if base != 10 else bounded(Fraction(int(digits)))

# --------------------------------------------------------------------------------------- Sets of real numbers
# A list of pairs of cuts. The cut (x, 0) lies just before x, (x, 1) just after it: [a,b) is (a,0), (b,0), and
# the point a is (a,0), (a,1). So neither open or closed ends nor points need cases of their own.
INFINITY = float("inf")  # compares with fractions
LINE = ((-INFINITY, 1), (INFINITY, 0))
def cuts(value) -> list:
    """The pairs of cuts of an interval, a union or a finite set of real numbers."""
    if kind(value) == "union": return [pair for interval in value[1] for pair in cuts(interval)]
    points, ends = members(value), value[2] if kind(value) == "tuple" and len(value[2]) == 2 else ()
    if ends and all(isinstance(end, (Fraction, float)) for end in ends) and ends[0] < ends[1]:
        return [((ends[0], int(value[1][0] == "(")), (ends[1], int(value[1][1] == "]")))]
    refuse(not all(isinstance(point, Fraction) for point in points), "not a set of real numbers")
    return [((point, 0), (point, 1)) for point in points]
def merge(pairs: list) -> list:
    merged = []
    for low, high in sorted(pair for pair in pairs if pair[0] < pair[1]):
        if merged and low <= merged[-1][1]: merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else: merged.append((low, high))
    return merged
def intersection(first: list, second: list) -> list:
    refuse(len(first) * len(second) > MAX_PIECES, "too many pieces")
    return merge([(max(a, c), min(b, d)) for a, b in first for c, d in second])
def without(first: list, second: list) -> list:
    """The first set but for the second: its intersection with the gaps between the second's pieces."""
    edges = [cut for pair in merge(second) for cut in pair]
    return intersection(first, list(zip([LINE[0], *edges[1::2]], [*edges[::2], LINE[1]])))
def region(pairs: list):
    """The value of a set of real numbers: a finite set, one interval, or several in order."""
    merged = merge(pairs)
    if all(low[0] == high[0] for low, high in merged): return collection(low[0] for low, _ in merged)
    intervals = [("tuple", "[("[low[1]] + ")]"[high[1]], (low[0], high[0])) for low, high in merged]
    return intervals[0] if len(intervals) == 1 else ("union", tuple(intervals))
SET_OPERATIONS = {"\\cup": operator.add, "\\cap": intersection, "\\setminus": without}

# -------------------------------------------------------------------------- Points: where values are compared
# Two formulas are one if they agree at all points: six near ones tell all that is analytic apart, the others
# what bends (bars, roots, inverse functions, floors, a sign that turns with an integer). Those lie between
# small integers and beyond, on both sides of 0, with all residues modulo 12; from FAR on only exact values
# count. Letters are seldom negative together: |x| is not x, yet \sqrt{ab} is \sqrt a\sqrt b.
NEAR, FAR, LAST, POINTS = 6, 19, 28, 32  # near, middle and far points; the last are very far
INTEGERS = {name: shift for shift, name in enumerate("klmnN")}
SIZES = *(13 + 7 * i % 12 for i in range(12)), 1000, *range(3, 12), 99, 5000, 12345, 10**5
RING = (17, 12, 20, 15, 11, 22)  # what integers run through nearby, each from its own start
DISTANCES = (*range(10), 12, 15, 20), (150, 1000, 12345, 10**6)  # of real letters: in the middle, far out
@lru_cache(maxsize=1 << 15)
def place(name: str, j: int):
    """A letter's value at point j. It depends on the letter alone: it is the same in every answer."""
    if name in INTEGERS: return Fraction(place_integer(name, j))
    value, seed, row = draw(name, j), sum(map(ord, name)), turn(name, j)
    if j >= NEAR:
        order, distances = 2 * (j // 3) + row, DISTANCES[j >= LAST]
        value += distances[(5 * order + seed) % len(distances)] if row or j >= LAST else j // 3 - 2
    if row: return value
    return mp.mpc(inexact(value), 1) if name == "z" else -value  # |z|^2 is not z^2
def place_integer(name: str, j: int) -> int:
    shift = INTEGERS[name]
    if j < NEAR: return RING[(j + shift) % NEAR] >> (name in "klm")  # so that n - k is never negative
    size = SIZES[j - NEAR]
    if name in "klm": return 1 + ((5, 7, 11)[shift] * j + shift) % min(12, size)
    return size + (name == "N") * (1 + (10 * j + j // 18) % 12)
def turn(name: str, j: int) -> int:
    """0 where a letter or a function is negative: seldom two of them at once."""
    return (j - sum(map(ord, name))) % 3 if j >= NEAR else 1
def draw(seed: str, j: int) -> Fraction:
    """A number for a letter or value: below 1, below 4, below 1, ..., from the seventh on below 1."""
    return Fraction(1 + zlib.crc32(f"{seed}/{j}".encode()) % 1999, 512 if j % 2 and j < NEAR else 2048)
class Far(tuple):
    """Values beyond the near ones: what is undefined or not known there (...) may be anything."""
    def __hash__(self): return 0
    def __eq__(self, other): return all(a == b or ... in (a, b) for a, b in zip(self, other))

# --------------------------------------------------------------------------------------------- The calculator
# Recursive descent. A value is a tuple: one number, or one for each point where the variables are tried.
class Calculator:
    """The parser that calculates the formulas of one answer at its points, and counts the work."""
    def __init__(self, tokens: list[str]):
        self.tokens, self.functions, self.work = tokens, applied(tokens) | CHOOSING.keys(), MAX_WORK
        names = {token for token in tokens if is_name(token)}
        self.points = {name: tuple(place(name, j) for j in range(POINTS)) for name in names - self.functions}
        self.everywhere = "i" in tokens or INTEGERS.keys() >= names  # complex points count as well
    def unknown(self, name: str, arguments: list, sign: str = "") -> tuple:
        """An unknown function's values: they depend on its name and its arguments' values alone."""
        def value(j, *point):
            drawn = draw(f"{name}({','.join(map(spell, point))})", int(j))
            return drawn if not sign or turn(sign, int(j)) else -drawn
        value.cost = 30
        return self.each(value, tuple(map(Fraction, range(POINTS))), *arguments)
    def spend(self, work: int):
        self.work -= work
        refuse(self.work < 0, "too much work")
    def each(self, f, *vectors):
        """`f` at every point: None where a near value is undefined, ... where a further one is not known."""
        size = max(map(len, vectors))
        rows = zip(*(vector if len(vector) == size else vector * size for vector in vectors))
        return tuple(self.apply(f, arguments, j) for j, arguments in enumerate(rows))
    def apply(self, f, arguments: tuple, j: int):
        types = {*map(type, arguments)}
        exact = types == {Fraction}
        if type(...) in types or j >= FAR and not exact: return ...
        if j >= FAR and f in (factorial, gamma) and not is_integer(*arguments): return ...
        if type(None) in types: return None
        cheap = f in CHEAP or f is power and exact and is_integer(arguments[1])
        self.spend((4 if exact else 40) if cheap else getattr(f, "cost", 150))
        try: result = f(*arguments)
        except (ZeroDivisionError, ValueError, TypeError, Refused) as error:  # mpmath's poles are ValueErrors
            if j >= NEAR: return ...
            if isinstance(error, Refused): raise
            return None
        if isinstance(result, Fraction): self.spend((bits(result) >> 10) ** 2)  # for common divisors
        return result
    def value(self, tokens: list[str]):
        refuse(noncommuting(tokens), "matrices")
        self.rest, self.at, self.depth, self.in_bars, self.in_angle = list(tokens), 0, 0, False, False
        result = self.sum()
        refuse(self.peek(), "something follows the formula")
        return result
    def peek(self) -> str: return self.rest[self.at] if self.at < len(self.rest) else ""
    def take(self, *expected: str) -> str:
        token = self.peek()
        refuse(not token or expected and token not in expected, "another token was expected")
        self.at += 1
        return token
    def signed(self, parse):
        negative = False
        while self.peek() in ("+", "-"): negative ^= self.take() == "-"
        value = parse()
        return self.each(operator.neg, value) if negative else value
    def sum(self):
        r"""Terms; or two sums as TeX has them: n \over 2, 10 \choose 3."""
        total = self.signed(self.product)
        while self.peek() in ("+", "-"): total = self.each(add, total, self.signed(self.product))
        return self.each(OVER[self.take()], total, self.sum()) if self.peek() in OVER else total
    def product(self, implicit_only: bool = False):
        """Factors from left to right: 1/2x is (1/2)x. A bare function takes implicit ones: sin 2x."""
        result = self.factor()
        while True:
            token = self.peek()
            if token in ("*", "/") and not implicit_only: self.take()
            elif not self.multiplies(token) or implicit_only and token in FUNCTIONS: return result
            result = self.each(divide if token == "/" else multiply, result, self.signed(self.factor))
    def multiplies(self, token: str) -> bool:
        """Can a factor begin here without a sign? A number only after a bracket, factorial or power."""
        before = self.rest[max(self.at - 2, 0) : self.at]
        if token.lstrip(".")[:1] in DIGITS: return before[-1] in (*")]}|", *FACTORIALS) or before[0] == "^"
        return token in FACTORS or is_name(token) or token == "|" and not self.in_bars
    def factor(self):
        result = self.atom()
        while self.peek() in ("^", "\\degree", *FACTORIALS):
            token = self.take()
            if token == "^": result = self.each(power, result, self.exponent())
            elif token in FACTORIALS: result = self.each(FACTORIALS[token], result)
            elif self.in_angle: result = self.each(multiply, result, (DEGREE,))
        return result
    def exponent(self):
        result = self.signed(self.atom)
        refuse(self.peek() == "^", "double superscript")
        return result
    def argument(self):
        r"""A TeX argument: a group or one token, of a number its first digit: \frac12 is a half."""
        token = self.peek()
        if token.isdigit() and len(token) > 1: self.rest[self.at : self.at + 1] = token[0], token[1:]
        return self.atom()
    def atom(self):
        self.depth += 1
        refuse(self.depth > MAX_DEPTH, "too deep")
        token = self.take()
        if token.lstrip(".")[:1] in DIGITS: result = (bounded(Fraction(token)),)
        elif token in self.points: result = self.points[token]
        elif token in CONSTANTS: result = (CONSTANTS[token],)
        elif token in PAIRS and token != "\\{": result = self.bracket(token)
        elif token in FRACTIONS: result = self.each(FRACTIONS[token], self.argument(), self.argument())
        elif token == "\\sqrt":
            index = self.atom() if self.peek() == "[" else (Fraction(2),)
            result = self.each(power, self.argument(), self.each(divide, (ONE,), index))
        elif token in FUNCTIONS: result = self.function(token)
        elif token in self.functions: result = self.application(token)
        else: raise Refused("an unknown token")
        self.depth -= 1
        return result
    def bracket(self, opening: str):
        outer, self.in_bars = self.in_bars, opening == "|"
        result = self.sum()
        self.take(PAIRS[opening])
        self.in_bars = outer
        if opening == "\\lVert": return self.unknown("norm", [result])
        return self.each(ROUNDED[opening], result) if opening in ROUNDED else result
    def function(self, name: str):
        scripts = {"_": None, "^": None}
        while self.peek() in scripts:
            script = self.take()
            scripts[script] = self.argument() if script == "_" else self.exponent()
        base, exponent = scripts.values()
        if exponent == MINUS_ONE: name, exponent = INVERSES.get(name, ""), None
        refuse(not name or base and name not in BASED, "unknown function")
        outer, self.in_angle = self.in_angle, name in ANGULAR
        bracketed = self.peek() in PAIRS  # f(x)^2 is the square of f(x), and f(x)y is f(x) times y
        value = self.signed(self.atom if bracketed else lambda: self.product(implicit_only=True))
        self.in_angle = outer
        known, arguments = (BASED[name], [base, value]) if base else (FUNCTIONS[name], [value])
        value = self.each(known, *arguments)
        return self.each(power, value, exponent) if exponent else value
    def application(self, name: str):
        """A name and its arguments: f(2), B(2,3), E[X], f^{-1}(x)."""
        start = self.at
        if self.peek() == "^":  # an inverse, an iterate or a derivative: it is another function
            self.take()
            self.exponent()
        script = "".join(token for token in self.rest[start : self.at] if token not in "{}")
        opening, arguments = self.take("(", "[", "\\{"), [self.sum()]
        while self.peek() in (",", ";"):
            self.take()
            arguments.append(self.sum())
        self.take(PAIRS[opening])
        known = KNOWN.get(name + script)
        return self.each(known, *arguments) if known else self.unknown(name + script, arguments, name)
    def ratio(self, left: list[str], right: list[str], directed: bool = False):
        """Left minus right, up to a constant factor: its first value that counts and is not 0."""
        vector = self.each(add, self.value(left), self.each(operator.neg, self.value(right)))
        real = self.mostly_real(vector)
        pivot = next((v for v in vector[:NEAR] if v and not (real and isinstance(v, mp.mpc))), None)
        if pivot is None or len(vector) == 1: return None
        refuse(directed and isinstance(pivot, mp.mpc), "no order")
        return self.key(self.each(divide, vector, (abs(pivot) if directed else pivot,)))
    def key(self, vector: tuple):
        """A hashable: the number if it is constant, else the values: if enough are real, only those."""
        self.spend(4 * len(vector))
        real = self.mostly_real(vector)
        keys = [self.value_key(v, real and ("z" not in self.points or turn("z", j)))
                for j, v in enumerate(vector)]
        refuse({*keys[:NEAR]} <= {None}, "defined nowhere")
        return keys[0] if len({*keys} - {...}) == 1 else ("formula", tuple(keys[:NEAR]), Far(keys[NEAR:]))
    def value_key(self, v, real: bool):
        """A hashable for a value; None for a complex one where only the real ones count."""
        if v is None or v is ...: return v
        key = number_key(v)
        if isinstance(key, Fraction): self.work -= bits(key) >> 4  # keeps a reading small
        return None if real and isinstance(key, tuple) else key
    def mostly_real(self, vector) -> bool:
        real = [v for v in vector[:NEAR] if v is not None and not isinstance(v, mp.mpc)]
        return len(real) >= (1 if len(vector) == 1 else 3) and not self.everywhere
def spell(z) -> str:
    parts = [z] if isinstance(z, Fraction) else [number_key(rational(part)) for part in (z.real, z.imag)]
    return "i".join(f"{part.numerator:x}/{part.denominator:x}" for part in parts)
def letter(name: str) -> str: return re.split("[_'~]", name)[0]
@lru_cache(maxsize=4096)
def is_name(token: str) -> bool:
    r"""A variable: x, x_1, f', \theta, \hat x. The constants e and i are none."""
    base = letter(token)
    return token not in CONSTANTS and (base in GREEK or len(base) == 1 and base.isascii() and base.isalpha())
def applied(tokens: list[str]) -> set[str]:
    """The names that are functions in this answer: they stand before brackets only, and once not as a plain
    factor. One that also stands alone, as in n(n+1), is a factor; so is a usual one before a sum: a(b+c)."""
    functions, alone, factors = set(), set(), {}
    for i, name in enumerate(tokens):
        if not is_name(name): continue
        usual, start = letter(name) in USUAL_FACTORS, i + 1
        if tokens[start : start + 1] == ["^"]:  # f^2(x) and h^{-1}(x), but x^2(x+1)
            end = atom_end(tokens, start + 1)
            raised = "".join(tokens[start + 1 : end]).strip("{}")
            if letter(name) in ALWAYS or not usual and (raised == "-1" or raised[:1] == "("): start = end
        if tokens[start : start + 1] not in (["("], ["["]):
            alone.add(name)
            continue
        end = atom_end(tokens, start)
        argument = tokens[start + 1 : end - 1]
        signs = {*split(argument[1:], ("+", "-", ",", ";"))[1]}
        plain = signs and signs <= {"+", "-"} or tokens[end : end + 1] == ["^"]
        if not (usual and plain) or factors.setdefault(name, argument) != argument:  # s(t+1) - s(t-1)
            functions.add(name)
    return functions - alone
def atom_end(tokens: list[str], start: int) -> int:
    """Where the bracket or the signed token ends that starts here."""
    depths = enumerate(accumulate(map(weight, tokens[start:])), start)
    return next((end + 1 for end, depth in depths if depth <= 0 and tokens[end] not in "+-"), len(tokens))
def noncommuting(tokens: list[str]) -> bool:
    """Matrices, words of a group, cycles? AB - BA is not 0, P^{-1}AP is not A, (12)(13) is not (13)(12)."""
    text = " ".join(token for token in tokens if token not in "{}")
    digits = re.findall("[1-9]", text) if CYCLES.fullmatch(text) else []
    if TURNED.search(text) or len({*digits}) < len(digits): return True
    if len(CAPITALS.intersection(tokens)) > 1 and INVERTED.search(text): return True
    pairs = {(a, b) for a, b in zip(tokens, tokens[1:]) if CAPITALS >= {a, b} and a != b}
    return any((b, a) in pairs for a, b in pairs)

# ---------------------------------------------------------------------------------------------------- Numbers
# Fraction while exact, then mpf, or mpc when complex. No mpf is a simple fraction, and no mpc is real.
def bits(q: Fraction) -> int: return max(q.numerator.bit_length(), q.denominator.bit_length())
def is_integer(z) -> bool: return isinstance(z, Fraction) and z.denominator == 1
def bounded(q: Fraction) -> Fraction:
    refuse(bits(q) > MAX_BITS, "too many digits")
    return q
def inexact(z): return mp.mpf(z.numerator) / z.denominator if isinstance(z, Fraction) else z
def settle(z):
    """An mpmath result without its rounding noise, so that no disguise is left."""
    if isinstance(z, Fraction): return z
    if not mp.isfinite(z): raise ZeroDivisionError
    refuse(z and abs(mp.mag(z)) > MAX_MAGNITUDE, "too large or too small")
    if not isinstance(z, mp.mpc): return rational(z)
    noise = mp.mag(z) - BITS // 2
    real, imag = (part if part and mp.mag(part) > noise else mp.zero for part in (z.real, z.imag))
    return mp.mpc(real, imag) if imag else rational(real)
def rational(x):
    """The fraction that a real number agrees with to more than a hundred digits, if there is one."""
    if not x or abs(mp.mag(x)) > 200: return x or Fraction(0)
    exact = numerator, denominator = mpmath.libmp.to_rational(x._mpf_)
    shift = max(0, min(map(int.bit_length, exact)) - 256)  # half as long, it is found twice as fast
    simple = Fraction(numerator >> shift, denominator >> shift).limit_denominator(1 << 80)
    difference = simple.numerator * denominator - numerator * simple.denominator
    return simple if abs(difference) << KEY_BITS < abs(numerator) * simple.denominator else x
def number_key(z):
    """A hashable that equal numbers share: the fraction, or KEY_BITS bits as one, or those of both parts."""
    if isinstance(z, Fraction): return z
    if isinstance(z, mp.mpc): return ("complex", number_key(rational(z.real)), number_key(rational(z.imag)))
    sign, mantissa, exponent, _ = mpmath.libmp.mpf_pos(z._mpf_, KEY_BITS, "n")
    return Fraction(-mantissa if sign else mantissa) * Fraction(2) ** exponent
def arithmetic(operation):
    def calculate(a, b):
        if isinstance(a, Fraction) and isinstance(b, Fraction): return bounded(operation(a, b))
        return settle(operation(inexact(a), inexact(b)))
    return calculate
multiply, divide = arithmetic(operator.mul), arithmetic(operator.truediv)
def add(a, b):
    if isinstance(a, Fraction) and isinstance(b, Fraction): return bounded(a + b)
    if not a or not b: return a or b
    total = inexact(a) + inexact(b)
    small, large = sorted((mp.mag(inexact(a)), mp.mag(inexact(b))))
    if not total or mp.mag(total) < large - BITS // 2:
        return Fraction(0)  # the terms cancel: what is left of them is rounding noise
    refuse(small < large - KEY_BITS + 100, "a term too small to be seen beside the other")
    return settle(total)
def power(a, b):
    """a^b: exact where it can be; of a negative number the real root if there is one, so (-8)^{1/3} = -2."""
    if not a and not (isinstance(b, Fraction) and b > 0): raise ZeroDivisionError
    if isinstance(b, Fraction):
        if b.denominator % 2 and b.denominator > 1 and not isinstance(a, mp.mpc) and a < 0:
            return power(-a, b) * (-1) ** b.numerator
        if isinstance(a, Fraction) and b.denominator == 2 and a > 0:
            root = Fraction(math.isqrt(a.numerator), math.isqrt(a.denominator))
            a, b = (root, b * 2) if root * root == a else (a, b)
        b = b.numerator if b.denominator == 1 else b
    if isinstance(a, Fraction) and isinstance(b, int):
        if abs(a) == 1 or not a: return a ** (b % 2 or 2)
        size = math.log2(max(abs(a.numerator), a.denominator)) if abs(b) <= MAX_BITS else 1
        refuse(size * abs(b) > MAX_BITS, "power too large")
        return a**b
    a, b = inexact(a), b if isinstance(b, int) else inexact(b)
    quick = isinstance(a, mp.mpf) and a > 0 and abs(mp.mag(a)) < 1000
    log = math.log(a) if quick else 0  # 0 also where a is too near 1
    size = mp.mag(b) + mp.mag(log or mp.log(a) or 1) if b else 0
    refuse(not 100 - KEY_BITS < size <= MAX_MAGNITUDE.bit_length(), "power too large, or too near 1")
    return settle(mp.power(a, b))
def within(z, small: int, limit: int):
    """An argument for mpmath, of a size that is seen in the result: cos 10^-100 is not 1."""
    refuse(isinstance(z, Fraction) and small > -MAX_MAGNITUDE and bits(z) > 256, "too many digits")
    z = inexact(z)
    refuse(z and not small <= mp.mag(z) <= limit, "argument too large or too small")
    return z
def smooth(f, limit: int, small: int = -128):
    """An mpmath function as one of ours, for arguments between 2^small and 2^limit."""
    return lambda z: settle(f(within(z, small, limit)))
def wave(f):
    """sin or cos: beside 1, 2^-512 is rounding noise: tan 90 degrees must find a zero to divide by."""
    return smooth(lambda z: value if mp.mag(value := f(z)) > -BITS // 2 else mp.zero, 64)
def special(f, high: int, low=None):
    """A real function of mpmath's where it is neither slow nor flat: erf(100) would be 1."""
    def calculate(z):
        z = within(z, -64, 64)
        refuse(isinstance(z, mp.mpc) or not (-high if low is None else low) <= z <= high, "out of bounds")
        return settle(f(z))
    calculate.cost = 2000
    return calculate
def polylogarithm(order, z):
    refuse(not is_integer(order) or not 2 <= order <= 9, "order out of bounds")
    return special(partial(mp.polylog, int(order)), 1)(z)
polylogarithm.cost = 19_000
def whole(z) -> int:
    refuse(not is_integer(z), "not an integer")
    return z.numerator
def zeta(s):
    refuse(abs(s) > 100, "flat")
    return settle(mp.zeta(whole(s)))
def floor(x):
    if isinstance(x, mp.mpc): raise ZeroDivisionError
    refuse(not isinstance(x, Fraction) and mp.mag(x) > BITS // 2, "too large to round")
    return Fraction(math.floor(x) if isinstance(x, Fraction) else int(mp.floor(x)))
def factorial(x):
    """x!, by the gamma function where x is not an integer."""
    refuse(isinstance(x, mp.mpc) or abs(x) > 3000, "factorial too large")
    if not is_integer(x): return settle(mp.gamma(within(x, -128, 12) + 1))
    return bounded(Fraction(math.factorial(int(x))))  # of a negative one: a ValueError, as a pole is
def gamma(x): return factorial(add(x, -ONE))
factorial.cost = gamma.cost = 350
def double_factorial(x):
    refuse(not -1 <= whole(x) <= 3000, "double factorial of this")
    return bounded(Fraction(math.prod(range(whole(x), 0, -2))))
def binomial(n, k):
    """n over k: a polynomial in n where that is no integer."""
    refuse(not isinstance(n, Fraction) or whole(k) < 0, "binomial of this")
    k = whole(k)
    small = is_integer(n) and n >= 0 and min(k, n - k) * n.numerator.bit_length() <= MAX_BITS
    if small: return Fraction(math.comb(n.numerator, k))
    refuse(k > 30, "binomial too large")
    return bounded(math.prod(((n - j) / Fraction(j + 1) for j in range(k)), start=ONE))

# ----------------------------------------------------------------------------------------------------- Tokens
# A number "12.5", a name "x_1" or "x~hat", a command "\\frac", a word '"inches', or a character.
def tokenize(answer: str) -> list[str]:
    """The tokens of an answer, without noise (spaces, sizes, dollars), in one spelling."""
    text = answer if answer.isascii() else spell_unicode(answer)
    text = FONT.sub(r"\\vec{\1\2}" if PRODUCT.search(text) else r" \1\2 ", LETTER_FONT.sub(r" \1 ", text))
    for clue, pattern, spelling in SPELLINGS:
        if clue in text: text = re.sub(pattern, spelling, text)
    text = text.replace("\\left|", "\\lvert ").replace("\\right|", "\\rvert ")
    tokens, position, nested = [], 0, 0
    while position < len(text):
        match = TOKEN.match(text, position)
        kind, token, start, position = match.lastgroup, match[0], position, match.end()
        first = tokens[-1:]
        if kind == "words": tokens += read_words(match["words"])
        elif kind == "run":
            tokens += read_run(token, text[start - 1 : start], text[position : position + 1], tokens)
        elif kind == "mixed":
            n, d = re.findall(r"(?<=/)[0-9]+|[0-9]+(?=\s*[}/])|[0-9]", token[len(match["whole"]) :])
            script = first in (["^"], ["_"], ["\\frac"], ["\\sqrt"])
            if 0 < int(n) < int(d) and n[0] != "0" and not script:
                tokens += ["(", re.sub(r"\s", "", match["whole"]), "+", n, "/", d, ")"]
            else:  # 2\frac{7}{3} is a product
                tokens.append(re.match("[0-9]+", token)[0])
                position = start + len(tokens[-1])
        elif kind == "repeating":  # 0.1\overline{6} = (16 - 1) / 90
            fixed, period = re.fullmatch(r"([0-9.]*)\D*([0-9]+)\D*", token).groups()
            digits, nines = fixed.replace(".", ""), "9" * len(period) + "0" * len(fixed.split(".")[1])
            tokens += ["(", str(int(digits + period) - int(digits or 0)), "/", nines, ")"]
        elif kind in ("spaced", "commas"):
            groups = re.split(r"[^0-9.]+", token)
            if kind == "commas" and nested and not any(part[0] == "0" for part in groups[1:]):
                groups, position = groups[:1], start + len(groups[0])  # (100,200) is a pair
            tokens.append("".join(groups))
        elif kind == "scientific":
            mantissa, exponent = re.split("[eE]", token)
            tokens += ["(", mantissa, "*", "10", "^", "{", *re.findall("[+-]|[0-9]+", exponent), "}", ")"]
        elif kind == "accent":
            accent, base, index = ACCENTED.match(token).groups()
            tokens.append(f"{base}~{ACCENTS[accent]}" + re.sub(r"[\s{}]", "", index))
        elif kind != "noise":
            token = re.sub(CLEANED[kind], "", token) if kind in CLEANED else KINDS.get(kind, token)
            token = ALIASES.get(token, token)
            if token == "\\{" and first == ["-"]: tokens[-1] = "\\setminus"
            tokens.append(token)
            nested += WEIGHTS.get(token, 0) if token not in "{}" else 0
    if len(tokens) > 2 and tokens[0] == "\\{" and "\\begin" in tokens[1] and "\\end" in tokens[-1]:
        tokens[:2], tokens[-1] = ["\\begin{cases}"], "\\end{cases}"  # \left\{ ... \right.
    return rewrite(tokens)
def rewrite(tokens: list[str]) -> list[str]:
    """Tokens that only together are what they look like, as one. A token a line, for the patterns."""
    if len(tokens) < 3: return tokens
    text = "".join(token + "\n" for token in tokens)
    text = SCRIPT.sub(r"\1\2", text)
    text = re.sub(r"^,\n(\\(?:and|or)\n)", r"\1", text, flags=re.M)  # 1, 2, and 3
    text = CHOSEN.sub(choose, text)
    if DERIVATIVE.search(text): text = OPERATOR.sub(r"\\operator\n", DIFFERENTIAL.sub(r"\1~\2\3\n", text))
    if VECTOR.search(text):
        text = text.replace("\\times\n", "\\cross\n").replace("\\cdot\n", "\\inner\n")  # no calculator's
    text = SPACE.sub(r"\1~1\n", text)  # S^1 x S^1 is not S^2
    text = MODULUS.sub(r"\1", text)  # 1 (mod 4)
    text = IN_INTEGERS.sub("", text)  # x = n pi, n in Z
    if len(re.findall("^[abABcCK]$", text, re.M)) == 1: text = CONSTANT.sub("C~\n", text)
    if WAVE.search(text): text = re.sub(r"^c(_\d)\n", r"C\1\n", text, flags=re.M)
    return text.replace("\\times\n", "*\n").replace("\\cdot\n", "*\n").split("\n")[:-1]
def choose(match) -> str:
    r"""C_5^2 and A_5^2 are numbers: combinations and permutations."""
    n, k = map(int, match.groups())
    if not 3 <= n <= 1000 or k > n: return match[0]
    return f"{{\n{math.comb(n, k) if match[0][0] == 'C' else math.perm(n, k)}\n}}\n"
def spell_unicode(answer: str) -> str:
    answer = METRES.sub(r"\1\\text{\2}", answer)
    answer = re.sub(f"[{RAISED}]+", lambda match: f"^{{{match[0].translate(PLAIN)}}}", answer)
    return re.sub(f"[{LOWERED}]+", lambda match: f"_{{{match[0].translate(PLAIN)}}}", answer)
def read_words(words: str) -> list[str]:
    r"""\text{...}: "and" and "or" separate; e, i and functions are themselves; all else is one word."""
    words = re.sub(r"[\s~]+|\\[ ,;:!]", " ", words).strip(" $\\")
    words = words.replace("per cent", "percent").replace("\\cdot ", "*")
    words = words if words in (",", ";") else words.strip(" ,;").removesuffix(".")
    if "\\" + words in FUNCTIONS: return ["\\" + words]
    if words.lower() in WORDS: return WORDS[words.lower()].split()
    plain = words in ("e", "i", ",", ";") or re.fullmatch("[0-9]+", words)
    return [words] if plain else ['"' + words.lower()] if words else []
def read_run(run: str, before: str, after: str, tokens: list[str]) -> list[str]:
    """Letters outside \\text: a function, a separator, a word, a unit, or a product: `ab`, `abc`, 2xyz."""
    letters = sorted(run.lower())
    alone = before in tuple(" (~}.,/-:;\n") + ("",) and after in tuple(" )~,.;:-/\\!?'\n$") + ("",)
    neighbours = len(run) == 2 or len(set(letters)) == len(run) and ord(letters[-1]) - ord(letters[0]) < 5
    function = "\\" + run in FUNCTIONS and (len(run) > 2 or run == "ln" or after == "(")
    if function or run in ("pi", "sqrt", "infty"): return ["\\" + run]
    if (alone or before in tuple(")]}") and after == "(") and run in WORDS: return WORDS[run].split()
    if tokens[-1:] == ["\\angle"] and run.isupper(): return list(run)
    if run in ("dx", "dy", "dt"): return ["d~" + run[1]]  # dy/dx is not y/x
    follows = tokens and (tokens[-1][0].isdigit() or tokens[-1] in (")", "]", "}", "\\pi"))
    unit = follows and run in SHORT_UNITS or run.lower() in MONEY and run[0].isupper()
    return ['"' + run.lower()] if alone and (not neighbours or unit or run.lower() == "no") else list(run)

# --------------------------------------------------------------------------------------------- Tables: tokens
NOISE = r"""left right [bB]igg?[lrm]? displaystyle textstyle scriptstyle scriptscriptstyle q?quad mathbf
    mathcal mathit boldsymbol bm rm bf it tiny scriptsize footnotesize small normalsize [lL]arge LARGE [hH]uge
    limits nolimits pounds euro yen textdollar texteuro textsterling ensuremath underline fbox""".split()
ACCENTS = dict(pair.split(":") for pair in """hat:hat widehat:hat bar:bar overline:bar tilde:tilde
    widetilde:tilde vec:vec overrightarrow:vec dot:dot ddot:ddot check:check mathring:ring""".split())
ACCENTED = re.compile(r"\\([a-z]+)[\s{]*(\\[A-Za-z]+|[A-Za-z])[\s}]*(.*)", re.S)
FONT = re.compile(r"\\(?:mathbf|bm|boldsymbol)\s*\{\s*([A-Za-z]|\\[a-z]+)\s*\}"
                  r"|\\(?:mathbf|bm)\s+([A-Za-z])(?![A-Za-z])")
LETTER_FONT = re.compile(r"\\math(?:cal|it|scr|frak)\s*\{\s*([A-Za-z])\s*\}")
PRODUCT = re.compile(r"\\(?:times|cdot)(?![a-z])")
TOKEN = re.compile(r"""
    (?P<row>\\\\(?:\[[\w. ]*\])?)
  | (?P<noise>[\s$£€¥₹₽₩₺₫₱~\u200b\u2060\ufeff]+ | \\[$,;:!>\s/()\[\]] | \\(?:left|right)\.
      | \\(?:tag\*?|label|[hv]space\*?|[hv]?phantom|textcolor)\s*\{[^{}]*\} | \\(?:NOISE)(?![A-Za-z]))
  | (?P<environment>\\(?:begin|end)\s*\{[A-Za-z]+\*?\}(?:(?<=n\{array\})\s*\{[clr|\s]*\})?)
  | \\(?:text[a-z]*|mbox|hbox|mathrm|mathsf|mathtt|operatorname\*?)\s*\{(?P<words>[^{}]*)\}
  | (?P<reals>\\mathbb\s*\{?R\}?|\\R(?![A-Za-z])|ℝ)
  | (?P<degree>\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree(?![A-Za-z])|(?<=[0-9])\\circ)
  | (?P<mixed>(?P<whole>[0-9]{1,3}(?:\s[0-9]{3})+|[0-9]+)
      (?:\s*\\[dt]?frac\s*(?:\{\s*[0-9]+\s*\}|[0-9])\s*(?:\{\s*[0-9]+\s*\}|[0-9])|\s+[0-9]+/[0-9]+))
  | (?P<repeating>[0-9]*\.[0-9]*\s*\\(?:overline|bar|dot)\s*(?:\{[0-9]+\}|[0-9]))
  | (?P<spaced>[0-9]{1,3}(?:(?:,\\!\s*|\s*\{,\s*\}\s*|\\[,;:\s]\s*|~|\s)[0-9]{3})+(?![0-9])(?:\.[0-9]+)?)
  | (?P<commas>(?<![0-9],)[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])(?:\.[0-9]+)?)
  | (?P<scientific>(?:[0-9]+\.[0-9]*|1)[eE][+-]?[0-9]+ | [0-9]+[eE][0-9]+
      | [0-9]+[eE](?:-(?:[5-9]|[0-9]{2,})|\+[0-9]{2,})(?=\s*(?:[,;)}\]$=.]|$)))
  | (?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)
  | (?P<accent>\\(?:ACCENT)(?![A-Za-z])\s*
      (?:\{\s*(?:\\[A-Za-z]+|[A-Za-z])\s*\}|\\[A-Za-z]+|[A-Za-z])(?:\s*_\s*(?:\{[^{}]*\}|\w))?)
  | (?P<name>(?:[A-Za-z]|\\[A-Za-z]+(?<!log))
      (?:'+(?:\s*_\s*(?:\{[^{}]*\}|\w|\\[a-z]+))?|\s*_\s*(?:\{[^{}]*\}|\w|\\[a-z]+)))
  | (?=(?P<run>[A-Za-z]{2,}))(?P=run)(?!\s*[_'])
  | (?P<other>\\[A-Za-z]+|\\.|!+|.)
""".replace("NOISE", "|".join(NOISE)).replace("ACCENT", "|".join(ACCENTS)), re.X | re.S)
KINDS = {"row": "\\row", "reals": "\\reals", "degree": "\\degree"}
CLEANED = {"name": r"[\s{}]|\\(?:text|mathrm|rm)(?![a-z])", "environment": r"[\s*]|(?<=n\{array\}).*"}
ALIASES = dict(pair.split(":") for pair in r"""\dfrac:\frac \tfrac:\frac \cfrac:\frac \dbinom:\binom
    \tbinom:\binom \ast:* \div:/ \lbrace:\{ \rbrace:\} \vert:| \mid:| \leq:\le \leqslant:\le \geq:\ge
    \geqslant:\ge \lt:< \gt:> \neq:\ne \varnothing:\emptyset \vee:\lor \wedge:\land \%:"percent %:"percent
    \pmod:\mod \bmod:\mod \Vert:\| \backslash:\setminus \smallsetminus:\setminus""".split())
UNICODE = str.maketrans({pair[0]: pair[2:].replace("_", " ") for pair in r"""−:- –:- ·:\cdot_ ⋅:\cdot_
    ×:\times_ ÷:/ ≤:\le_ ≥:\ge_ ≠:\ne_ ∞:\infty_ π:\pi_ θ:\theta_ √:\sqrt_ ∪:\cup_ ∩:\cap_ ∈:\in_ ∅:\emptyset_
    ±:\pm_ °:^\circ_ α:\alpha_ β:\beta_ γ:\gamma_ δ:\delta_ ε:\epsilon_ λ:\lambda_ μ:\mu_ ρ:\rho_ σ:\sigma_
    τ:\tau_ φ:\phi_ ω:\omega_ Δ:\Delta_ Ω:\Omega_ ℤ:\mathbb{Z} 或:\text{or} 和:\text{and} 且:\text{and} 、:, ，:,
    。:. （:( ）:) ；:; ：:: ＝:= ½:\frac{1}{2} ⅓:\frac{1}{3} ⅔:\frac{2}{3} ¼:\frac{1}{4} ¾:\frac{3}{4} ‖:\|
    """.split()} | {chr(0xFF10 + digit): str(digit) for digit in range(10)})
RAISED, LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "₀₁₂₃₄₅₆₇₈₉"
PLAIN = str.maketrans(RAISED + LOWERED, "0123456789+-n0123456789")
METRES = re.compile(r"^([0-9.,\s]*[0-9]\s*)([a-z]{1,2})[²³]$")
SPELLINGS = (
    ("**", r"\*\*", "^"), ("!=", r"(?<=\s)!=", r"\\ne "), (" x ", r"(?<=[0-9]) x (?=10\^)", r"\\times "),
    (")", r"(?<![_^])([0-9]\s+|\\text\{\s*)\(([a-z ]{3,})\)(?=\}?$)", r"\1\2"),  # 180 (days)
    ("", r"\\(?:\||Vert)(.*?)\\(?:\||Vert)", r"\\lVert \1\\rVert "),
    ("\\int^", r"\\int\^(\{[^{}]*\}|.)_(\{[^{}]*\}|.)", r"\\int_\2^\1"),
    ("{cases}", r",?\s*&\s*(?:\\text\s*\{\s*(?:if|for)\s*\})?", "& "),
    ("isin", r"(?<![A-Za-z\\])isin(?![A-Za-z])", r"i\\sin "),
    ("\\Omega", r"(?<=[0-9])((?:\s|\\[ ,;]){0,9})\\Omega$", r"\\text{ohm}"),
    ("/", r"(?<=[0-9]\s)((?:cm|k?m|ft|mi)/(?:h|s|min)(?:\^[23])?)$", r"\\text{\1}"),
    ("", r"(?<=[0-9])((?:\s|\\[ ,;])?(?:cm|mm|km|kg)(?:\^[23])?)$", r"\\text{\1}"))
OPTION = re.compile(r"\A(?:\\text\s{0,9}\{\s{0,9})?"
                    r"(?:(?:[Oo]ption|[Cc]hoice)\s\(?([A-J])\)?\}?\Z|([A-J])[.)][\s}].*)", re.S)
EDGES = re.compile(r"""^(?:\s|\\[,;:!\ ]|\\displaystyle(?![A-Za-z]))+
    | (?<![\s,;.])(?<!\\[!:])(?:\s|\\[,;:!\ ]|(?<!\.)\.)+$ | (?<!\\)\\{1,2}$""", re.X)
WRAPPER = re.compile(r"""(?:
    (?:\\(?:boxed|fbox|text[a-z]*|mbox|hbox|math(?:rm|bf|sf|it|tt)|operatorname|bm|boldsymbol
    |ensuremath)\s*)?\{(.*)\}
    | \${1,2}(.*[^\\])\${1,2} | \\\((.*)\\\) | \\\[(.*)\\\]
    | "([^"]*)" | “([^”]*)” | ‘([^’]*)’ | '([^']*)' | ``(.*)''
    | \*\*([^*]*)\*\*)(?:\s|\\[,;:!])*""", re.S | re.X)
WORDS = {text: reading for reading, texts in {
    r"\and": "and", r"\or": "or", r"\mod": "mod,modulo", '"dne': "does not exist,do not exist",
    r"\infty": "infinity,+infinity,positive infinity", r"\emptyset": "empty set,the empty set",
    r"- \infty": "-infinity,minus infinity,negative infinity",
    r"\reals": "all real numbers,all reals,any real number,every real number,real numbers,the real numbers,"
                "the set of all real numbers,set of all real numbers"}.items() for text in texts.split(",")}

# ----------------------------------------------------------------------------------- Tables: shapes and words
DIGITS, CAPITALS = {*"0123456789"}, {*"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
SMALL = {*"abcdfghjklmnopqrstuvwxyz"}
INVERTED = re.compile(r"(?<!\S)(?:[A-Z]|[A-Z] [A-Z] \)) \^ (?:- 1|T)(?!\S)|[NSEW] \S+ \\degree [NSEW]")
TURNED = re.compile(r"(?<!\S)(?:[a-df-zA-DF-Z]|\\[a-z]+) \^ (?:T|\\top|\\intercal)(?!\S)"
                    r"|(?<!\S)([a-z]) (?:[a-z] (?:\^ - 1 )?){1,6}\1 \^ - 1"
                    r"|(?<!\S)([a-z]) \^ - 1 (?:[a-z] (?:\^ - 1 )?){1,6}\2(?! \^| ?\S*_)")
CYCLES = re.compile(r"\( [1-9]{2,9} \)(?: \( [1-9]{2,9} \))+")
CHOICES = {*"ABCDEFGHIJabcdfghj"}  # a letter alone is a choice: c = C = (C) = \text{(C)}
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}
WEIGHTS = {**dict.fromkeys("( [ { \\{ \\langle \\lfloor \\lceil \\lvert \\lVert".split(), 1),
           **dict.fromkeys(") ] } \\} \\rangle \\rfloor \\rceil \\rvert \\rVert".split(), -1)}
ALIGNMENTS = {f"\\begin{{{name}}}" for name in ("aligned", "align", "split", "eqnarray")}
COLUMNS = ALIGNMENTS | {f"\\begin{{{name}}}" for name in ("array", "cases", "gathered", "gather", "equation")}
NO_ANSWERS = {"", *re.split(r",\s*", """n/a,n.a,nan,null,notfound,not found,not available,not applicable,tbd,
    not provided,unknown,todo,missing,q.e.d,qed,omitted,none,as required,as desired,as claimed,shown above,
    \\blacksquare,\\square,\\Box,\\qed""")}
PHRASE = re.compile(r"(?:none|all|both|neither|no|not|does|do|cannot|infinitely|only)( \S+){1,4}$", re.I)
ARGUMENT = re.compile(r"\b(?:we|let|thus|hence|therefore|because|since|so|then|now|note|answer|gives?|giving"
                      r"|follows|shows|obtain|using|proof|prove|proved|proven|see)\b")
DICTIONARY = re.compile(r"""[\[(\s]*\{\s*(?:['"].*['"]\s*:|\d+:\s)""", re.S)
GREEK = {"\\" + name for name in """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa
    lambda mu nu xi rho sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega
    ell""".split()}
# Letters that are factors before a sum, as in a(b+c). Others are functions there, and all are in y(2), y(x).
USUAL_FACTORS = {*"abcdjklmnopqrstvwxyzABCDKLMNRV"} | {"\\" + name for name in """alpha beta gamma epsilon
    varepsilon theta vartheta kappa lambda mu nu xi rho sigma omega""".split()}
ALWAYS = {*"fgFG", *r"\Gamma \zeta \phi \varphi \Phi \psi \Psi".split()}  # functions also in f^2(x)
NAME = (r"(?![ei](?:\s|$)|\\(?:Gamma|zeta)(?:\s|$))(?:[A-Za-z]|" + "|".join(map(re.escape, sorted(GREEK)))
        + r")(?:[_'~]\S*)?")
ARGUMENTS = rf"(?: \^ (?:- 1|\( \w+ \)))? \( (?:{NAME}|\d+)(?: , (?:{NAME}|\d+))* \)"
SEGMENT = r"[A-Z](?:_\w+)? [A-Z](?:_\w+)?"
LABEL = re.compile(rf'''{NAME}(?:{ARGUMENTS})?|\( {NAME}(?: , {NAME})+ \)|"[a-z ]+|[A-Z](?: [A-Z]){{1,3}}
    |(?:m[ ])?\\angle(?: [A-Z]){{1,3}}|(?:\||\\lvert) (?:{SEGMENT}|\S+~vec|z) (?:\||\\rvert)|\\lim_\S+ .+
    |\\(?:sin|cos|tan|cot) (?:\\angle )?{NAME}(?: [A-Z]){{0,2}}|(?:P|E|\\Pr|"var) [(\[] [^()\[\]]+ [)\]]
    |\\frac (?:{SEGMENT} {SEGMENT}|\S+[_~]\S+ \S+[_~]\S+)|{NAME} : {NAME}'''.replace("\n    ", ""))
SCRIPT = re.compile(r"^([_^]\n|\\mathbb\n)\{\n(\D.*\n|\d\n)\}\n", re.M)  # x^{2} is x^2
CHOSEN = re.compile(r"^[CAP]_(\d+)\n\^\n(?:\{\n)?(\d+)\n(?:\}\n)?", re.M)
DIFFERENTIAL = re.compile(rf"^(d|\\Delta)\n(?:\^\n(\d)\n)?({NAME})\n", re.M)
DERIVATIVE = re.compile(rf"^(d|\\Delta)(?:~\S+)?\n(?:.*\n){{0,8}}?(?:\}}\n\{{|/)\n\1(?:\n{NAME}|~)", re.M)
OPERATOR = re.compile(r"^d\n(?:\^\n\d\n)?(?=\}\n\{|/\n)", re.M)
VECTOR = re.compile(r"~(?:vec|hat)\S*\n")
SPACE = re.compile(r"^([A-Z])\n\^\n1\n", re.M)
MODULUS = re.compile(r"^\(\n(\\mod\n(?:.+\n)+?)\)\n", re.M)
IN_INTEGERS = re.compile(r",\n([klmnN])\n\\in\n\\mathbb\nZ\n\Z")
CONSTANT = re.compile(r"(?<=\n\+\n)[cCK]\n\Z")
WAVE = re.compile(r"^(?:e\n\^|\\(?:sin|cos|exp|ln)\n)", re.M)
RELATIONS = ("=", "\\in", "\\equiv", *FLIPPED)
UNIT = re.compile(r'"[a-z]+\.?(?:\^?[23])?(?:(?: ?[/.*-] ?| )"?[a-z]+\.?(?:\^?[23])?){0,3}'
                  r'(?: \^ (?:[0-9]|\{ - [0-9] \}))?')
MONEY = {*"usd eur gbp inr jpy cny rmb cad aud us rs".split()}
SHORT_UNITS = {*"cm mm km kg mg ml ft hr".split()}  # other pairs of letters after a value are products
NEVER_FIRST = {*"squared cubed per old total".split()}
NEVER_LAST = {*"n per square cubic sq cu distinct different ordered real unique possible".split()}
UNITS = {*"""m g s h l j v c f km cm mm nm um kg mg lb oz ml dl cl ft in yd mi hr min ms kmh kph mph rpm hz
    khz mhz pa kpa atm kw mw kwh mol ev kj kcal cal db bit byte kb mb gb sq cu millimeter centimeter meter
    kilometer millimetre centimetre metre kilometre mile foot feet inch yard acre hectare pct percentage point
    milligram gram kilogram ton tonne pound ounce liter litre milliliter gallon quart pint cup second sec
    minute hour day week month year decade degree radian celsius fahrenheit kelvin newton joule watt volt amp
    ampere ohm hertz pascal coulomb mole calorie knot percent dollar cent euro rupee yuan yen peso square
    cubic squared cubed unit step per column people person student child children player team worker old apple
    orange book marble ball coin card ticket candy candies box page word letter solution root value way
    outcome possibility possibilities arrangement permutation combination choice path game round move time
    side edge vertex vertices face diagonal triangle piece item object element subset group row light n
   """.split()}
NOUNS = {*"""integer number value term digit divisor factor multiple prime function set tuple triple quadruple
    cube shot distinct different ordered real unique possible""".split()}

# ------------------------------------------------------------------------------------- Tables: the calculator
PAIRS = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "|": "|", "\\lvert": "\\rvert", "\\lVert": "\\rVert",
         "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
ROUNDED = {**dict.fromkeys(("|", "\\lvert", "\\abs"), lambda z: settle(abs(z))),
           **dict.fromkeys(("\\lfloor", "\\floor"), floor),
           **dict.fromkeys(("\\lceil", "\\ceil"), lambda x: -floor(-x))}
ONE, MINUS_ONE, CHEAP = Fraction(1), (Fraction(-1),), (add, operator.neg, multiply, divide)
CONSTANTS = {"\\pi": mp.mpf(mp.pi), "e": mp.mpf(mp.e), "i": mp.mpc(0, 1)}
DEGREE = divide(CONSTANTS["\\pi"], Fraction(180))
SIN, COS, LOG = wave(mp.sin), wave(mp.cos), smooth(mp.log, MAX_MAGNITUDE, -MAX_MAGNITUDE)
INVERSES = {"\\" + name: "\\arc" + name for name in "sin cos tan cot sec csc sinh cosh tanh".split()}
FUNCTIONS = {"\\" + name: f for names, f in {
    "sin": SIN, "cos": COS, "tan": lambda z: divide(SIN(z), COS(z)), "cot": lambda z: divide(COS(z), SIN(z)),
    "sec": lambda z: divide(ONE, COS(z)), "csc cosec": lambda z: divide(ONE, SIN(z)), "ln log": LOG,
    "cis": lambda z: add(COS(z), multiply(CONSTANTS["i"], SIN(z))), "sinh": wave(mp.sinh),
    "cosh": smooth(mp.cosh, 64), "tanh": smooth(mp.tanh, 6), "coth": smooth(mp.coth, 6),
    "lg": lambda z: divide(LOG(z), LOG(Fraction(10))), "exp": lambda z: power(CONSTANTS["e"], z),
    "erf": special(mp.erf, 8), "erfc": special(mp.erfc, 8), "Si": special(mp.si, 64),
    "Ei": special(mp.ei, 64), "Ci": special(mp.ci, 64, 0), "li": special(mp.li, 2**64, 0),
    "Li": partial(polylogarithm, None), "Gamma": gamma, "zeta": zeta,
}.items() for name in names.split()} | {name: ROUNDED[name] for name in ("\\abs", "\\floor", "\\ceil")}
BASED = {"\\log": lambda base, z: divide(LOG(z), LOG(base)), "\\Li": polylogarithm}
CHOOSING = {"\\max": max, "\\min": min, "\\gcd": lambda *z: Fraction(math.gcd(*map(whole, z))),
            "\\lcm": lambda *z: Fraction(math.lcm(*map(whole, z)))}
KNOWN = {"\\psi": special(mp.digamma, 999), **dict.fromkeys(("W", "W_0"), special(mp.lambertw, 2**64, -0.36)),
         **{f"J_{n}": special(partial(mp.besselj, n), 16) for n in range(10)}, **CHOOSING}
ANGULAR = {*r"\sin \cos \tan \cot \sec \csc \cis".split()}  # where 30° is pi/6; elsewhere it is 30
FUNCTIONS |= {name.replace("\\arc", prefix): smooth(getattr(mp, name.replace("\\arc", "a").strip("\\")), 64)
              for name in (*INVERSES.values(), "\\sech", "\\csch") for prefix in ("\\a", "\\ar", "\\arc")}
FACTORIALS = {"!": factorial, "!!": double_factorial}
FRACTIONS, OVER = {"\\frac": divide, "\\binom": binomial}, {"\\over": divide, "\\choose": binomial}
FACTORS = {*CONSTANTS, *FUNCTIONS, *CHOOSING, *PAIRS, *FRACTIONS, "\\sqrt"} - {"|", "\\{"}
