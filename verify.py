r"""verify.py: is this answer the gold answer?  A rule-based verifier of mathematical answers in LaTeX.

    extract_answer(response)   what stands in the last complete \boxed{...} of the solution
    canonical(answer)          what an answer means, as a hashable `Reading`: built once, compared many times
    equivalent(gold, answer)   do two readings agree?
    reward(response, gold)     1.0 or 0.0: what reinforcement learning needs
    group(answers)             a class label for each answer: what voting needs
    checkable(gold)            can this gold be earned at all?

How. An answer is cut into tokens. Its outer shape (list, set, tuple, interval, matrix, equation, inequality,
residue, text ...) becomes a nested tuple. Each formula inside is *calculated* while it is parsed: exactly, in
fractions, as far as that goes, and to 300 digits beyond; with variables at several fixed rational points, and
two formulas that agree at all of them are the same (polynomial identity testing). The value of an unknown
function, of the f in f(2), is a fixed random number that depends on its name, its argument and the point:
f(1+1) is f(2), but f(5) is not f(2)+f(3). So comparing two answers is comparing two plain values. What cannot
be read is text, and equals only the same text.

Why it is safe with any input. No `eval`, no computer algebra, no general LaTeX parser: only the calculator
touches an answer, and each operation is bounded *before* it is done, by length, depth, digits, exponents,
domain and total work. So nothing hangs, no timeout is needed, and no verdict depends on the machine or its
load.

Leniencies, all of them: units, currency, degree and percent signs beside a number are dropped (25\% is 25,
not 0.25); the name in `x = 5` or `f(n) = 2n+1` is optional; a list has no order, and a set of one is its
member; words have neither case nor font; `\log` is natural; 2^10 is 2^{10}; k, l, m, n, N are positive
integers, other variables real. Where the rules leave a doubt two answers differ: a false "right" gets
exploited in training, a false "wrong" costs a sample. So a word after a value is dropped only if it is a
known unit, and a letter before a bracket is a factor only where that is plain: n(n+1) and a(b+c) are
products, y(2), f(a+b) and u(x-ct) are not.
"""
import math
import operator
import re
import threading
import zlib
from collections import Counter
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import accumulate, product
from typing import NamedTuple

import mpmath  # comes with sympy; nothing else of sympy is needed

MAX_TAIL = 1 << 17  # characters at the end of a response in which its answer is looked for
MAX_LENGTH = 2000  # characters: a longer answer equals only itself
MAX_PROSE = 15  # words: a gold that says more is no answer
MAX_DEPTH = 20  # brackets, fractions, radicals and functions inside each other
MAX_BITS = 1 << 15  # of an exact number's numerator and denominator: 9,864 digits
MAX_WORK = 40_000  # of one answer, in steps of about a microsecond
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
    name: str = ""  # what stands before the value: the x of `x = 5` and `x > 5`, the f ( n ) of `f(n) = 2n+1`
    region: bool = False  # of an inequality: "or" unites such values, "and" intersects


# --------------------------------------------------------------------------------------- What the file is for

def extract_answer(response: str) -> str | None:
    r"""The content of the last complete \boxed{...} of a response, or None. Thoughts, all before the last
    `</think>`, do not count, nor what precedes the last `MAX_TAIL` characters. Last is the box that closes
    last: of nested ones the outer. Braces must balance, but for `\{` and `\}`."""
    tail, answer, opened = solution(response)[-MAX_TAIL:], None, []
    if "\\boxed" not in tail: return None
    for brace in re.finditer(r"\\boxed\s{0,9}\{|\\.|[{}]", tail, re.S):
        if brace[0] == "{" or brace[0].startswith("\\boxed"):
            opened.append(brace.end() if brace[0] != "{" else None)
        elif brace[0] == "}" and opened and (start := opened.pop()) is not None:
            answer = tail[start : brace.start()]
    return answer


def solution(response: str) -> str:
    """What follows a reasoner's thoughts."""
    return response.rpartition("</think>")[2]


def canonical(answer: str) -> Reading | None:
    """What an answer means: a hashable, or None for an empty answer. Never raises on a `str`."""
    if len(answer) > MAX_LENGTH: return Reading(("unread", answer)) if not answer.isspace() else None
    return cached_reading(answer)


def equivalent(gold: str, answer: str) -> bool:
    """Are two answers the same? Symmetric; reflexive, but for empty answers, which equal nothing. Two
    equations are compared as equations, all else by value, and an equation has the one it gives to its name.
    So `x=5` and `y=5` differ though both equal `5`: the only place where equivalence is not transitive."""
    first, second = canonical(gold), canonical(answer)
    if first is None or second is None: return False
    if first.equation is not None and second.equation is not None: return first.equation == second.equation
    return first.value is not None and first.value == second.value


def reward(response: str, gold: str, strict: bool = False) -> float:
    r"""1.0 if the last complete \boxed{...} of a response holds the gold answer (and, if strict, is the only
    one)."""
    if strict and solution(response).count("\\boxed") != 1: return 0.0
    answer = extract_answer(response)
    return float(answer is not None and equivalent(gold, answer))


def group(answers: list[str | None]) -> list[int | None]:
    """For each answer the index of the first one in its class, None where there is no answer. A class is what
    `equivalent` joins, directly or through other answers, so it does not depend on their order."""
    readings = [None if answer is None else canonical(answer) for answer in answers]
    alone = {reading.value for reading in readings if reading and reading.equation is None}
    root: dict = {}

    def find(key):
        while root.setdefault(key, key) != key:
            key = root[key]
        return key

    keys = []
    for reading in readings:
        marks = [("value", reading.value)] if reading and reading.value in alone else []
        marks += [("equation", reading.equation)] if reading else []
        keys.append([mark for mark in marks if mark[1] is not None])
        for mark in keys[-1][1:]:
            root[find(mark)] = find(keys[-1][0])
    first: dict = {}
    return [None if reading is None else first.setdefault(find(marks[0]) if marks else i, i)
            for i, (reading, marks) in enumerate(zip(readings, keys))]


def checkable(gold: str) -> bool:
    """Can this gold, as a data set has it, be earned, and would that mean anything? Not if it is empty or too
    long to be read, stands for a missing answer, is a dict written as text, or a paragraph."""
    if canonical(gold) is None or len(gold) > MAX_LENGTH or DICTIONARY.match(gold): return False
    text = " ".join(unwrap(gold).split()).strip(" .:!?()[]<>*_-")
    missing = text == "NA" or text.lower() in NO_ANSWERS or text.lower().startswith("proof")
    return not missing and len(re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", gold)) <= MAX_PROSE


# ------------------------------------------------------------------------------------- The shape of an answer

@lru_cache(maxsize=1024)
def cached_reading(answer: str) -> Reading | None:
    tokens = tokenize(unwrap(answer))
    if not tokens: return None
    depths = list(accumulate(map(weight, tokens)))
    with LOCK:
        try:
            refuse(depths[-1] or min(depths) < 0 or max(depths) > MAX_DEPTH, "brackets do not match")
            return read_list(tokens, Calculator(tokens))
        except Refused:
            return Reading(read_text(tokens))
        except Exception:  # none is known; but a run of days must not end on an odd answer: read it as itself
            return Reading(("unread", answer))

def unwrap(answer: str) -> str:
    r"""An answer without what ends a sentence, and without dollars, quotes, \boxed{}, \text{} or braces
    around it."""
    for _ in range(MAX_DEPTH):
        answer = EDGES.sub("", answer)
        match = WRAPPER.fullmatch(answer)
        content = next(filter(None, match.groups()), "") if match else ""
        braces = re.findall(r"\\.|[{}]", content, re.S)
        if not match or min(accumulate((b == "{") - (b == "}") for b in braces), default=0) < 0:
            break  # {1}{2} is no wrapper
        answer = content
    return answer

def weight(token: str) -> int:
    return WEIGHTS.get(token, 0) + token.startswith("\\begin") - token.startswith("\\end")

def split(tokens: list[str], separators) -> tuple[list[list[str]], list[str]]:
    """The parts of a token list between the separators outside all brackets, and those separators."""
    parts, found, depth = [[]], [], 0
    for token in tokens:
        depth += weight(token)
        if depth == 0 and token in separators:
            parts.append([])
            found.append(token)
        else:
            parts[-1].append(token)
    return parts, found

def enclosed(tokens: list[str]) -> bool:
    """Does the first token open a bracket that only the last one closes?"""
    depths = list(accumulate(map(weight, tokens)))
    return len(tokens) > 1 and depths[-1] == 0 and min(depths[:-1]) > 0

def collection(members) -> object:
    """Members in no order, but counted; one alone is itself."""
    members = list(members)
    return members[0] if len(members) == 1 else ("list", frozenset(Counter(members).items()))

def members(value) -> list:
    several = isinstance(value, tuple) and value[0] == "list"
    return list(Counter(dict(value[1])).elements()) if several else [value]

def read_list(tokens: list[str], calculator: "Calculator") -> Reading:
    """A whole answer, or what stands in the braces of a set: one item or several."""
    parts, found = separate(unstack(tokens))
    readings, name = [], ""
    for part in parts:
        for reading in dict.fromkeys(read_item(item, calculator) for item in spell_signs(part)):
            name = reading.name or name  # x = 1, 2: the name holds for what follows
            readings.append(reading._replace(name=name))
    if len(readings) == 1: return readings[0]
    same = len({reading.name for reading in readings}) == 1
    values, equations = [reading.value for reading in readings], [reading.equation for reading in readings]
    if same and all(reading.region for reading in readings) and {*found} in ({"\\or"}, {"\\and"}):
        combine = operator.add if "\\or" in found else intersection
        return Reading(region(reduce(combine, map(cuts, values))), name=name, region=True)
    value = collection(values) if same and None not in values else None  # x = 1, y = 2 is not the list 1, 2
    equation = collection(equations) if None not in equations else None
    refuse(value is None and equation is None or not same and "\\or" in found, "no list")
    return Reading(value, equation, name if same else "")

def separate(tokens: list[str]) -> tuple[list[list[str]], list[str]]:
    """The items of a list, and what stands between them."""
    parts, found = split(tokens, (",", ";", "\\and", "\\or", "\\row"))
    if len(parts) == 2 and not parts[1]:  # "5,"; but "1, 2," breaks off
        return parts[:1], []
    for i in reversed(range(len(found) - 1)):
        if not parts[i + 1] and found[i + 1] in ("\\and", "\\or"):  # "1, 2, and 3"
            del parts[i + 1], found[i]
    *others, last = parts
    if "\\mod" in last and not any("\\mod" in part for part in others):  # n = 0, 1 (mod 4)
        at = last.index("\\mod")
        parts = [part + last[at - (last[at - 1] == "(") :] for part in others] + [last]
    return parts, found

def unstack(tokens: list[str]) -> list[str]:
    """The rows of an environment that only sets them below each other, as a list; one cell alone as
    itself."""
    if not (tokens and tokens[0] in COLUMNS and enclosed(tokens)): return tokens
    inside = [token for token in tokens[1:-1] if token != "&" or tokens[0] not in ALIGNMENTS]
    rows = [row for row in split(inside, ("\\row",))[0] if row]
    if "&" in inside or len(rows) > 1 and tokens[0] == "\\begin{array}":
        return tokens  # a case distinction, or a column vector
    return [token for row in rows for token in (",", *row)][1:]

def spell_signs(tokens: list[str]) -> list[list[str]]:
    r"""The items that \pm stands for: each sign chooses for itself."""
    signs = [i for i, token in enumerate(tokens) if token == "\\pm"]
    if tokens[:1] == ["\\{"] and enclosed(tokens): return [tokens]
    refuse(len(signs) > 4, "too many signs")
    choices = [dict(zip(signs, choice)) for choice in product("+-", repeat=len(signs))]
    return [[choice.get(i, token) for i, token in enumerate(tokens)] for choice in choices]

def read_item(tokens: list[str], calculator: "Calculator") -> Reading:
    """A value, an equation, a chain of equal values, a congruence, an inequality or a membership."""
    sides, relations = split(tokens, ("=", "\\in", "\\equiv", *FLIPPED))
    if "\\mod" in tokens: return read_congruence(tokens, calculator)
    if not relations or relations == ["="] and not sides[0]:  # "= 5" goes on where the question ends
        return Reading(read_value(sides[-1], calculator))
    if {*relations} == {"="}:
        return read_equation(*sides, calculator) if len(sides) == 2 else read_chain(sides, calculator)
    if relations == ["\\in"] and label(sides[0]):
        return Reading(read_value(sides[1], calculator), name=label(sides[0]))
    refuse({*relations} - {*FLIPPED}, "not a relation that is read")
    return read_inequality(sides, relations, calculator)

def label(tokens: list[str]) -> str:
    """The text of what may stand before a value as its name: x, f(2), (x, y), AB, angle ABC; "" for anything
    else."""
    text = " ".join(token for token in tokens if token not in "{}")
    return text if LABEL.fullmatch(text) else ""

def read_equation(left: list[str], right: list[str], calculator: "Calculator") -> Reading:
    """Both as an equation and, if one side is a mere name, as the value of the other."""
    value, equation, name = None, None, ""
    for side, other in ((right, left), (left, right)):
        own = side[:1] if is_name("".join(side[:1])) else side[1::2]  # the f of f(n), whose n may well appear
        if label(side) and not {*own} & {*other}: value, name = read_value(other, calculator), label(side)
    try:
        minus = calculator.each(operator.neg, calculator.value(right))
        difference = calculator.each(add, calculator.value(left), minus)
        pivot = next((v for v in difference[: calculator.main] if v), None)  # this drops a constant factor
        if pivot is not None and len(difference) > 1:
            equation = ("equation", calculator.key(calculator.each(divide, difference, (pivot,))))
    except Refused:
        names, values = (split(side[1:-1], (",",))[0] for side in (left, right))
        if name and left[0] == "(" and enclosed(right) and len(names) == len(values):  # (x, y) = (1, 2)
            both = [read_equation(*pair, calculator).equation for pair in zip(names, values)]
            equation = collection(both) if None not in both else None
    if isinstance(value, tuple) and value[0] == "text": equation = ("equation", name, value)
    no_unknown = value is None and equation is None
    return read_chain([left, right], calculator) if no_unknown else Reading(value, equation, name)

def read_chain(sides: list[list[str]], calculator: "Calculator") -> Reading:
    """2 + 4 = 6: a value, if all sides have it. Of x = 3 = 6/2 the first has it not: nobody says what x
    is."""
    values = {read_value(side, calculator) for side in sides}
    refuse(len(values) > 1 or any(map(label, sides)), "an equation without unknown, or a false one")
    return Reading(values.pop())

def read_congruence(tokens: list[str], calculator: "Calculator") -> Reading:
    r"""n \equiv 1 \pmod 4, or without its name: a residue, which is no number."""
    before, modulus = tokens[: tokens.index("\\mod")], tokens[tokens.index("\\mod") + 1 :]
    if before[-1:] == ["("] and modulus[-1:] == [")"]:  # 1 (mod 4)
        before, modulus = before[:-1], modulus[:-1]
    sides, relations = split(before, ("\\equiv", "="))
    name = label(sides[0]) if relations else ""
    residue, size = read_value(sides[-1], calculator), read_value(modulus, calculator)
    integers = is_integer(residue) and is_integer(size) and size > 0
    refuse(not integers or len(sides) > 2 or relations and not name, "not a congruence that is read")
    value = ("residue", residue % size, size)
    return Reading(value, ("congruence", name, value) if name else None, name)

def read_inequality(sides: list[list[str]], relations: list[str], calculator: "Calculator") -> Reading:
    """x > 1, 2 <= x < 5, x != 0: intervals that have a name instead of brackets."""
    if len(sides) == 2 and not label(sides[0]) or {*relations} <= {">", "\\ge"} and len(sides) == 3:
        sides, relations = sides[::-1], [FLIPPED[relation] for relation in relations[::-1]]  # 1 < x
    name, closed = label(sides[len(sides) - 2]), [int(relation in ("\\le", "\\ge")) for relation in relations]
    if name and len(sides) == 3 and {*relations} <= {"<", "\\le"}:
        low, high = (read_value(side, calculator) for side in sides[::2])
        return Reading(("tuple", "(["[closed[0]] + ")]"[closed[1]], (low, high)), name=name, region=True)
    bound = read_value(sides[1], calculator)
    refuse(not name or len(sides) > 2 or not isinstance(bound, Fraction), "not an interval")
    below, above = (LINE[0], (bound, closed[0])), ((bound, 1 - closed[0]), LINE[1])
    pairs = {"<": [below], "\\le": [below], "\\ne": [below, above]}.get(relations[0], [above])
    return Reading(region(pairs), name=name, region=True)

def read_value(tokens: list[str], calculator: "Calculator"):
    """The value of an item without relation."""
    tokens = drop_units(tokens)
    refuse(not tokens, "empty")
    first, last, inside = tokens[0], tokens[-1], tokens[1:-1] if enclosed(tokens) else []
    if any(token[0] == '"' for token in tokens) and not inside or capitals(tokens): return read_text(tokens)
    if tokens in (["\\emptyset"], ["\\{", "\\}"]): return collection([])
    if tokens == ["\\reals"]: return region([LINE])
    if last == "\\infty" and tokens[:-1] in ([], ["+"], ["-"]): return -INFINITY if first == "-" else INFINITY
    parts, found = split(tokens, SET_OPERATIONS)
    if len({*found}) == 1:
        sets = [cuts(read_value(part, calculator)) for part in parts]
        return region(reduce(SET_OPERATIONS[found[0]], sets))
    if inside and first.startswith("\\begin"): return read_matrix(first, inside, calculator)
    if inside and first == "\\{": return read_set(inside, calculator)
    if inside and first in ("(", "[", "\\langle"):
        parts, found = split(inside, (",", ";"))
        if found:
            brackets = "()" if first == "\\langle" else first + last
            return ("tuple", brackets, tuple(read_value(part, calculator) for part in parts))
    if inside and (first + last in ("()", "{}") or inside[0].startswith("\\begin")):
        return read_value(inside, calculator)
    bare = "".join(token for token in tokens if token not in "{}")
    if based := re.fullmatch(r"\(?([0-9][0-9A-Z]*)\)?_([0-9]+)", bare):
        return read_based(based[1], int(based[2]))
    if len(tokens) == 1 and first in CHOICES: return ("text", first.lower())
    return calculator.key(calculator.value(tokens))

def drop_units(tokens: list[str]) -> list[str]:
    r"""Without the unit after a value: 15 \text{cm}^2, 60 miles per hour, 25\%; or the currency before it.
    Only known units go: any other word may change the meaning, as in 10 AM, 5 or 6, 2 thirds, 20\% increase,
    n even."""
    if tokens and tokens[0] in CURRENCIES: tokens = tokens[1 + (tokens[1:2] == ["."]) :]
    if len(tokens) > 1 and tokens[-1] == "\\sec":  # 5 \text{sec}
        return tokens[:-1]
    first = next((i for i, token in enumerate(tokens) if token[0] == '"'), 0)
    bracketed = bool(first) and tokens[first - 1] == "(" and tokens[-1] == ")"
    unit = " ".join(tokens[first : len(tokens) - bracketed])
    unit = re.sub(r'^"\(([a-z ]{2,})\)$', r'"\1', unit)  # 180 \text{ (days)}
    if not first or not UNIT.fullmatch(unit): return tokens
    words = re.findall("[a-z]+", unit)
    known = all({word, word.removesuffix("s"), word.removesuffix("es")} & UNITS for word in words)
    known = known and words[0] not in NEVER_FIRST and words[-1] not in NEVER_LAST
    return tokens[: first - bracketed] if known else tokens

def capitals(tokens: list[str]) -> bool:
    """A run of capitals alone is a word: BAC is not ABC."""
    return len(tokens) > 1 and CAPITALS.issuperset(token.rstrip("'") for token in tokens)

def read_text(tokens: list[str]):
    """Words, in any font and case. Without words, or with commands among them, case may tell variables
    apart."""
    text = ("" if capitals(tokens) else " ").join(token.removeprefix('"') for token in tokens)
    prose = any(token[0] == '"' for token in tokens) and "\\" not in text
    text = text.lower() if prose or capitals(tokens) else text
    return read_value(WORDS[text].split(), None) if text in WORDS else ("text", text)

def read_set(inside: list[str], calculator: "Calculator"):
    r"""What stands in the braces of a set: its members, each once, or \{x : x > 1\}."""
    head, *condition = split(inside, (":", "|"))[0]
    if len(condition) == 1 and head[1:] in ([], ["\\in", "\\reals"]): inside = condition[0]
    reading = read_list(inside, calculator)
    if condition and reading.region and [reading.name] == head[:1]: return reading.value
    nested = inside == ["\\emptyset"] or inside[:1] == ["\\{"] and enclosed(inside)
    refuse(condition or reading.name or reading.value is None or nested, "a set of equations, or of one set")
    return collection(dict.fromkeys(members(reading.value)))

def read_matrix(environment: str, tokens: list[str], calculator: "Calculator"):
    rows = [split(row, ("&",))[0] for row in split(tokens, ("\\row",))[0] if row]
    named = re.search(r"\{([pbB]|small)?matrix\}|\{array\}", environment)
    refuse(not named or len({len(row) for row in rows}) != 1, "not a matrix")
    return ("matrix", tuple(tuple(read_value(cell, calculator) for cell in row) for row in rows))

def read_based(digits: str, base: int):
    """A number in a base keeps its base: 4210_5 is neither 4210_6 nor 555. Base ten is the usual one."""
    refuse(not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in digits), "no number in this base")
    return ("base", base, int(digits, base)) if base != 10 else bounded(Fraction(int(digits)))


# --------------------------------------------------------------------------------------- Sets of real numbers
# A list of pairs of cuts. The cut (x, 0) lies just before x, (x, 1) just after it: [a,b) is (a,0), (b,0), and
# the point a is (a,0), (a,1). So open ends, closed ends and single points need no cases of their own.

INFINITY = float("inf")  # compares with fractions
LINE = ((-INFINITY, 1), (INFINITY, 0))

def cuts(value) -> list:
    """The pairs of cuts of an interval, a union or a finite set of real numbers."""
    if isinstance(value, tuple) and value[0] == "union":
        return [pair for interval in value[1] for pair in cuts(interval)]
    if isinstance(value, tuple) and value[0] == "tuple" and len(value[2]) == 2:
        (opening, closing), (low, high) = value[1:]
        if isinstance(low, (Fraction, float)) and isinstance(high, (Fraction, float)) and low < high:
            return [((low, int(opening == "(")), (high, int(closing == "]")))]
    refuse(not all(isinstance(point, Fraction) for point in members(value)), "not a set of real numbers")
    return [((point, 0), (point, 1)) for point in members(value)]

def merge(pairs: list) -> list:
    """The same set in disjoint pairs, in order."""
    merged = []
    for low, high in sorted(pair for pair in pairs if pair[0] < pair[1]):
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged

def intersection(first: list, second: list) -> list:
    refuse(len(first) * len(second) > MAX_PIECES, "too many pieces")
    return merge([(max(a, c), min(b, d)) for a, b in first for c, d in second])

def without(first: list, second: list) -> list:
    """The first set but for the second: its intersection with the gaps between the second's pieces."""
    edges = [cut for pair in merge(second) for cut in pair]
    return intersection(first, list(zip([LINE[0], *edges[1::2]], [*edges[::2], LINE[1]])))

def region(pairs: list):
    """The value of a set of real numbers: a finite set, one interval, or several in order that do not
    touch."""
    merged = merge(pairs)
    if all(low[0] == high[0] for low, high in merged): return collection(low[0] for low, _ in merged)
    intervals = [("tuple", "[("[low[1]] + ")]"[high[1]], (low[0], high[0])) for low, high in merged]
    return intervals[0] if len(intervals) == 1 else ("union", tuple(intervals))

SET_OPERATIONS = {"\\cup": operator.add, "\\cap": intersection, "\\setminus": without}


# --------------------------------------------------------------------------------------------- The calculator
# Recursive descent. A value is a tuple: one number, or one for each point where the variables are tried.

class Calculator:
    r"""The points of one answer, and the parser that calculates its formulas there while it counts the work.
    All variables are positive at 6 points (at 52 where there is a floor, so that integers run through 2 to
    41). Each real variable and unknown function has one more point, where it alone is negative: so |x| is not
    x, yet \sqrt{ab} is \sqrt a\sqrt b, since neither is real where just one is negative."""

    def __init__(self, tokens: list[str]):
        names, self.functions = sorted({token for token in tokens if is_name(token)}), applied(tokens)
        self.main, self.work = 52 if {"\\lfloor", "\\lceil"} & {*tokens} else 6, MAX_WORK
        self.flips = [name for name in names if name not in INTEGERS or name in self.functions][:8]
        self.points = {name: self.values(name) for name in names if name not in self.functions}

    def values(self, name: str) -> tuple[Fraction, ...]:
        """A variable's values. They depend on its name alone: a formula has the same ones in every answer."""
        if name in INTEGERS:
            ring = [n // 2 if name in "klm" else n for n in RING]  # so that n - k is never negative
            main = [ring[(j + INTEGERS[name]) % 12] for j in range(6)]
            main += [1 + (INTEGERS[name] + 2) * j % 41 for j in range(1, 41)]
            main += [64 * draw(name, j) for j in range(46, 52)]
        else:
            main = [draw(name, j) for j in range(self.main)]
        main = [Fraction(value) for value in main[: self.main]]
        return (*main, *(-main[1] if flip == name else main[1] for flip in self.flips))

    def unknown(self, name: str, arguments: list, sign: str = "") -> tuple:
        """An unknown function's values: they depend on its name and its arguments' values alone."""
        values = []
        for j in range(self.main + len(self.flips)):
            point = [vector[j] if len(vector) > 1 else vector[0] for vector in arguments]
            self.spend(10 + sum(bits(z) >> 5 if isinstance(z, Fraction) else 10 for z in point))
            value, flip = None, self.flips[j - self.main] if j >= self.main else None
            if not any(z is None for z in point):
                value = draw(f"{name}({','.join(map(spell, point))})", 1 if flip else j)
            values.append(-value if value and flip == sign else value)
        return tuple(values)

    def spend(self, work: int):
        self.work -= work
        refuse(self.work < 0, "too much work")

    def each(self, f, *vectors):
        """`f` at every point, None where it is undefined."""
        size, results = max(map(len, vectors)), []
        for arguments in zip(*(vector if len(vector) == size else vector * size for vector in vectors)):
            result, exact = None, all(isinstance(a, Fraction) for a in arguments)
            if not any(a is None for a in arguments):
                cheap = exact and (f in CHEAP or f is power and is_integer(arguments[1]))
                self.spend(3 if cheap else getattr(f, "cost", 100))
                try:
                    result = f(*arguments)
                except (ZeroDivisionError, ValueError):  # mpmath's poles are ValueErrors
                    pass
                if isinstance(result, Fraction):  # common divisors take quadratic time
                    self.spend(2 * (bits(result) >> 10) ** 2)
            results.append(result)
        return tuple(results)

    def signed(self, vector, negative: bool):
        return self.each(operator.neg, vector) if negative else vector

    def value(self, tokens: list[str]):
        refuse(noncommuting(tokens), "matrices")
        self.tokens, self.at, self.depth, self.in_bars, self.in_angle = list(tokens), 0, 0, False, False
        result = self.fraction()
        refuse(self.peek(), "something follows the formula")
        return result

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        """The next token. An empty `expected` takes any; otherwise the token must be among them."""
        token = self.peek()
        refuse(not token or expected and token not in expected, "another token was expected")
        self.at += 1
        return token

    def sign(self) -> bool:
        """Takes signs; is their product negative?"""
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        return negative

    def fraction(self):
        r"""A sum, or two of them as TeX has them: n \over 2, 10 \choose 3."""
        result = self.sum()
        if self.peek() in ("\\over", "\\choose"):
            result = self.each(divide if self.take() == "\\over" else binomial, result, self.sum())
        return result

    def sum(self):
        total = None
        while total is None or self.peek() in ("+", "-"):
            negative = self.sign()
            term = self.signed(self.product(), negative)
            total = self.each(add, total, term) if total else term
        return total

    def product(self, implicit_only: bool = False):
        """Factors from left to right: 1/2x is (1/2)x. A bare function takes implicit ones: sin 2x, not sin x
        cos x."""
        result = self.factor()
        while True:
            token, operation, negative = self.peek(), multiply, False
            if token in ("*", "/") and not implicit_only:
                operation, negative = divide if self.take() == "/" else multiply, self.sign()
            elif not self.multiplies(token) or implicit_only and token in FUNCTIONS: return result
            result = self.each(operation, result, self.signed(self.factor(), negative))

    def multiplies(self, token: str) -> bool:
        """Can a factor begin here without a sign? A number only after a bracket or factorial: 3!7!, not 3
        7."""
        if token[:1] in tuple("0123456789."):
            return self.tokens[self.at - 1] in (")", "]", "}", "|", "!")
        return token in FACTORS or is_name(token) or token == "|" and not self.in_bars

    def factor(self):
        result = self.atom()
        while self.peek() in ("^", "!", "\\degree"):
            token = self.take()
            if token == "^": result = self.each(power, result, self.exponent())
            elif token == "\\degree":
                result = self.each(multiply, result, (DEGREE,)) if self.in_angle else result
            elif self.peek() != "!": result = self.each(factorial, result)
            else:
                self.take()
                result = self.each(double_factorial, result)
                refuse(self.peek() == "!", "triple factorial")
        return result

    def exponent(self):
        negative = self.sign()
        result = self.atom()
        refuse(self.peek() == "^", "double superscript")
        return self.signed(result, negative)

    def argument(self):
        r"""A TeX argument: a group or one token, of a number its first digit: \frac12 is a half."""
        token = self.peek()
        if token.isdigit() and len(token) > 1: self.tokens[self.at : self.at + 1] = token[0], token[1:]
        return self.atom()

    def atom(self):
        self.depth += 1
        refuse(self.depth > MAX_DEPTH, "too deep")
        token = self.take()
        if re.match(r"\.?[0-9]", token): result = (bounded(Fraction(token)),)
        elif token in self.points: result = self.points[token]
        elif token in CONSTANTS: result = (CONSTANTS[token],)
        elif token in PAIRS: result = self.bracket(token)
        elif token in ("\\frac", "\\binom"):
            result = self.each(divide if token == "\\frac" else binomial, self.argument(), self.argument())
        elif token == "\\sqrt":
            index = self.atom() if self.peek() == "[" else (Fraction(2),)
            result = self.each(power, self.argument(), self.each(divide, (ONE,), index))
        elif token in FUNCTIONS: result = self.function(token)
        elif token in self.functions: result = self.application(token)
        else:
            raise Refused("an unknown token")
        self.depth -= 1
        return result

    def bracket(self, opening: str):
        outer, self.in_bars = self.in_bars, opening == "|"
        result = self.fraction() if opening == "{" else self.sum()
        self.take(PAIRS[opening])
        self.in_bars = outer
        if opening == "\\lVert": return self.unknown("norm", [result])
        return self.each(ROUNDED[opening], result) if opening in ROUNDED else result

    def function(self, name: str):
        base = exponent = None
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                base = self.argument()
            else:
                exponent = self.exponent()
        if exponent == MINUS_ONE: name, exponent = INVERSES.get(name, ""), None
        refuse(not name or base and name not in BASED, "unknown function")
        outer, self.in_angle = self.in_angle, name in ANGULAR
        bracketed = self.peek() in PAIRS  # f(x)^2 is the square of f(x), and f(x)y is f(x) times y
        negative = self.sign()
        value = self.signed(self.atom() if bracketed else self.product(implicit_only=True), negative)
        self.in_angle = outer
        value = self.each(BASED[name], base, value) if base else self.each(FUNCTIONS[name], value)
        return self.each(power, value, exponent) if exponent else value

    def application(self, name: str):
        """A name and its arguments: f(2), B(2,3), E[X], f^{-1}(x). Known functions are calculated, within
        bounds."""
        exponent, derivative = None, False
        if self.peek() == "^":
            self.take()
            derivative = "".join(self.tokens[self.at : self.at + 2]).lstrip("{")[:1] == "("  # f^{(n)}
            exponent = self.exponent()
        outer, self.in_bars = self.in_bars, False
        opening, arguments = self.take("(", "["), [self.sum()]
        while self.peek() in (",", ";"):
            self.take()
            arguments.append(self.sum())
        self.take(PAIRS[opening])
        self.in_bars = outer
        if name in SPECIAL and len(arguments) == 1 and not derivative and exponent != MINUS_ONE:
            try:
                value = self.each(SPECIAL[name], *arguments)
                return self.each(power, value, exponent) if exponent else value
            except Refused:
                pass  # outside its bounds it is as unknown as any other
        if exponent:  # an inverse, an iterate or a derivative: all we know is that it is another function
            return self.unknown(name + "^'"[: 1 + derivative], [exponent, *arguments], name)
        return self.unknown(name, arguments, name)

    def key(self, vector):
        """A hashable for a formula: its number if it is constant, else its values where it is real (its
        complex ones if it never is). Of the points with a negative variable only those that change something
        count: then a variable that cancels leaves no trace."""
        keys = [None if v is None else number_key(v) for v in vector]
        self.work -= sum(bits(key) for key in keys if isinstance(key, Fraction)) >> 4  # keeps a reading small
        if any(isinstance(key, Fraction) for key in keys[: self.main]):
            keys = [key if isinstance(key, Fraction) else None for key in keys]
        main, flipped = keys[: self.main], keys[self.main :]
        refuse(not any(key is not None for key in main), "defined nowhere")
        changes = frozenset((name, key) for name, key in zip(self.flips, flipped) if key != main[1])
        return ("formula", tuple(main), changes) if len({*main}) > 1 or changes else main[0]

def draw(seed: str, j: int) -> Fraction:
    """A number for a variable or value: below 1, below 4, below 1, ..., from the seventh on below 32."""
    drawn = 1 + zlib.crc32(f"{seed}/{j}".encode()) % 1999
    return Fraction(drawn, (2048, 512)[j % 2] if j < 6 else 64)

def spell(z) -> str:
    """A number as a text that is quick to write however long it is."""
    key = number_key(z)
    if isinstance(key, tuple): return "i".join(map(spell, key[1:]))
    return f"{key.numerator:x}/{key.denominator:x}"

def letter(name: str) -> str:
    return re.split("[_'~]", name)[0]

def is_name(token: str) -> bool:
    r"""A variable: x, x_1, f', \theta, \hat x. The constants e and i are none."""
    base = letter(token)
    return token not in CONSTANTS and (base in GREEK or len(base) == 1 and base.isascii() and base.isalpha())

def applied(tokens: list[str]) -> set[str]:
    """The names that are functions in this answer: they stand before brackets only, and once not as a plain
    factor. One that also stands alone, as in n(n+1), is a factor; so is a usual one before a sum, as in
    a(b+c)."""
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
    depth = 0
    for end in range(start, len(tokens)):
        depth += weight(tokens[end])
        if depth <= 0 and tokens[end] not in ("+", "-"): return end + 1
    return len(tokens)

def noncommuting(tokens: list[str]) -> bool:
    """Matrices or bearings? AB - BA is not 0, P^{-1}AP is not A, N 30 degrees E is not E 30 degrees N."""
    if CAPITALS.isdisjoint(tokens): return False
    pairs = {(a, b) for a, b in zip(tokens, tokens[1:]) if a in CAPITALS and b in CAPITALS}
    if any(a != b and (b, a) in pairs for a, b in pairs): return True
    return len(CAPITALS.intersection(tokens)) > 1 and bool(INVERTED.search(" ".join(tokens)))


# ---------------------------------------------------------------------------------------------------- Numbers
# Fraction while exact, then mpf, or mpc when complex. No mpf is a simple fraction, and no mpc is real.

def bits(q: Fraction) -> int:
    return max(q.numerator.bit_length(), q.denominator.bit_length())

def is_integer(z) -> bool:
    return isinstance(z, Fraction) and z.denominator == 1

def bounded(q: Fraction) -> Fraction:
    refuse(bits(q) > MAX_BITS, "too many digits")
    return q

def inexact(z):
    """The number for mpmath."""
    return mp.mpf(z.numerator) / z.denominator if isinstance(z, Fraction) else z

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
    """The fraction that a real number agrees with to more than a hundred digits, if there is one, else
    itself."""
    if not x or abs(mp.mag(x)) > 200: return x or Fraction(0)
    exact = Fraction(*mpmath.libmp.to_rational(x._mpf_))
    simple = exact.limit_denominator(1 << 80)
    return simple if abs(simple - exact) * (1 << KEY_BITS) < abs(exact) else x

def number_key(z):
    """A hashable that equal numbers share: the fraction, or KEY_BITS bits as one, or those of both complex
    parts. Only within 2^-500 of a rounding boundary could two calculations of one irrational part."""
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
    size = mp.mag(b) + mp.mag(mp.log(a) or 1) if b else 0
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
    """sin or cos: beside 1, their scale, 2^-512 is rounding noise: tan 90 degrees must find a zero to divide
    by."""
    return smooth(lambda z: value if mp.mag(value := f(z)) > -BITS // 2 else mp.zero, 64)

def special(f, low, high, cost: int):
    """A function that is slow or flat outside low <= z <= high: erf(100) would be 1. It costs so many
    microseconds."""
    def calculate(z):
        z = within(z, -64, 64)
        refuse(isinstance(z, mp.mpc) or not low <= z <= high, "argument out of bounds")
        return settle(f(z))
    calculate.cost = cost
    return calculate

def polylogarithm(order, z):
    refuse(not is_integer(order) or not 2 <= order <= 9, "order out of bounds")
    return special(lambda x: mp.polylog(int(order), x), -1, 1, 0)(z)
polylogarithm.cost = 19_000

def zeta(s):
    refuse(not is_integer(s) or abs(s) > 100, "slow at a fraction, and flat at a large number")
    return settle(mp.zeta(int(s)))

def floor(x):
    if isinstance(x, mp.mpc): raise ZeroDivisionError
    refuse(not isinstance(x, Fraction) and mp.mag(x) > BITS // 2, "too large to round")
    return Fraction(math.floor(x) if isinstance(x, Fraction) else int(mp.floor(x)))

def factorial(x):
    """x!, by the gamma function where x is not an integer."""
    refuse(isinstance(x, mp.mpc) or abs(x) > 3000, "factorial too large")
    if not is_integer(x): return settle(mp.gamma(within(x, -128, 12) + 1))
    if x < 0: raise ZeroDivisionError
    return bounded(Fraction(math.factorial(x.numerator)))

def double_factorial(x):
    """x!! = x (x-2) (x-4) ... of an integer from -1 on."""
    refuse(not is_integer(x) or not -1 <= x <= 3000, "double factorial of this")
    half = (x.numerator + 1) // 2
    even = math.factorial(half) << half  # (2 half)!!
    return bounded(Fraction(math.factorial(2 * half), even) if x % 2 else Fraction(even))

def binomial(n, k):
    """n over k: a polynomial in n where that is no integer."""
    refuse(not isinstance(n, Fraction) or not is_integer(k) or k < 0, "binomial of this")
    k = k.numerator
    if is_integer(n) and n >= 0 and min(k, n - k) * n.numerator.bit_length() <= MAX_BITS:
        return Fraction(math.comb(n.numerator, k))
    refuse(k > 30, "binomial too large")
    return bounded(math.prod(((n - j) / Fraction(j + 1) for j in range(k)), start=ONE))


# ----------------------------------------------------------------------------------------------------- Tokens
# A number "12.5", a name "x_1" or "x~hat", a command "\\frac", a word '"inches', or a character.

def tokenize(answer: str) -> list[str]:
    """The tokens of an answer: noise (spaces, sizes, dollars) left out, numbers and synonyms in one
    spelling."""
    text = FONT.sub(r" \1 ", answer if answer.isascii() else spell_unicode(answer))
    text = text.replace("\\left|", "\\lvert ").replace("\\right|", "\\rvert ")
    tokens, position, nested = [], 0, 0
    while position < len(text):
        match = TOKEN.match(text, position)
        kind, token, start, position = match.lastgroup, match[0], position, match.end()
        first, numbers = tokens[-1:], re.findall("[0-9]+", token)
        if kind == "words": tokens += read_words(match["words"])
        elif kind == "run":
            tokens += read_run(token, text[start - 1 : start], text[position : position + 1], tokens)
        elif kind == "mixed":
            whole = match["whole"]
            n, *d = re.findall("[0-9]+", token[len(whole) :])
            n, d = (n, d[0]) if d else (n[0], n[1])  # 1\frac45
            if 0 < int(n) < int(d) and n[0] != "0" and first not in (["^"], ["_"], ["\\frac"], ["\\sqrt"]):
                tokens += ["(", re.sub(r"\s", "", whole), "+", n, "/", d, ")"]
            else:  # 2\frac{7}{3} is a product
                tokens, position = [*tokens, numbers[0]], start + len(numbers[0])
        elif kind == "repeating":  # 0.1\overline{6} = (16 - 1) / 90
            fixed, period = re.fullmatch(r"([0-9.]*)\D*([0-9]+)\D*", token).groups()
            digits, nines = fixed.replace(".", ""), "9" * len(period) + "0" * len(fixed.split(".")[1])
            tokens += ["(", str(int(digits + period) - int(digits or 0)), "/", nines, ")"]
        elif kind in ("spaced", "commas"):
            groups = re.split(r"[^0-9.]+", token)
            if kind == "commas" and nested and not any(part[0] == "0" for part in groups[1:]):
                groups, position = groups[:1], start + len(groups[0])  # (100,200) is a pair
            tokens.append("".join(groups))
        elif kind == "float" and first and first[0] not in BEGINNINGS and tokens != ["-"]:  # x + 2e - 7
            tokens, position = [*tokens, numbers[0]], start + len(numbers[0])
        elif kind in ("scientific", "float"):
            mantissa, exponent = re.split("[eE]", token)
            tokens += ["(", mantissa, "*", "10", "^", "{", *re.findall("[+-]|[0-9]+", exponent), "}", ")"]
        elif kind == "accent":
            accent, base, index = ACCENTED.match(token).groups()
            tokens.append(f"{base}~{ACCENTS[accent]}" + re.sub(r"[\s{}]", "", index))
        elif kind != "noise":
            token = re.sub(CLEANED[kind], "", token) if kind in CLEANED else KINDS.get(kind, token)
            token = ALIASES.get(token, token)
            if token == "\\|":  # they open and close in turn
                token = "\\lVert" if tokens.count("\\lVert") == tokens.count("\\rVert") else "\\rVert"
            if token == "\\{" and first == ["-"]: tokens[-1] = "\\setminus"
            tokens.append(token)
            nested += WEIGHTS.get(token, 0) if token not in "{}" else 0
    if len(tokens) > 2 and tokens[0] == "\\{" and "\\begin" in tokens[1] and "\\end" in tokens[-1]:
        tokens[:2], tokens[-1] = ["\\begin{cases}"], "\\end{cases}"  # \left\{ ... \right.
    return tokens

def spell_unicode(answer: str) -> str:
    answer = METRES.sub(r"\1\\text{\2}", answer).translate(UNICODE)
    answer = re.sub(f"[{RAISED}]+", lambda match: f"^{{{match[0].translate(PLAIN)}}}", answer)
    return re.sub(f"[{LOWERED}]+", lambda match: f"_{{{match[0].translate(PLAIN)}}}", answer)

def read_words(words: str) -> list[str]:
    r"""\text{...}: "and" and "or" separate; upright e, i and functions are themselves; all else is one word
    token."""
    words = re.sub(r"[\s~]+|\\[ ,;:!]", " ", words).strip(" $\\").replace("per cent", "percent")
    words = words if words in (",", ";") else words.strip(" ,;").removesuffix(".")
    if "\\" + words in FUNCTIONS: return ["\\" + words]
    if words.lower() in WORDS: return WORDS[words.lower()].split()
    plain = words in ("e", "i", ",", ";") or re.fullmatch("[0-9]+", words)
    return [words] if plain else ['"' + words.lower()] if words else []

def read_run(run: str, before: str, after: str, tokens: list[str]) -> list[str]:
    """Letters outside \\text: a function, a separator, a word, a unit, or a product of variables. A product
    has two letters, or neighbours in the alphabet (`abc`), or touches something other than a space."""
    letters = sorted(run.lower())
    alone = before in tuple(" (~}.,/-:;\n") + ("",) and after in tuple(" )~,.;:-/\\!?'\n$") + ("",)
    neighbours = len(run) == 2 or len(set(letters)) == len(run) and ord(letters[-1]) - ord(letters[0]) < 5
    function = "\\" + run in FUNCTIONS and (len(run) > 2 or run == "ln" or after == "(")
    if function or run in ("pi", "sqrt", "infty"): return ["\\" + run]
    if alone and run in WORDS: return WORDS[run].split()
    if run in ("dx", "dy", "dt"): return ["d~" + run[1]]  # dy/dx is not y/x
    follows = tokens and (tokens[-1][0].isdigit() or tokens[-1] in (")", "]", "}", "\\pi"))
    unit = follows and run in SHORT_UNITS or '"' + run.lower() in CURRENCIES and run[0].isupper()
    return ['"' + run.lower()] if alone and (not neighbours or unit or run.lower() == "no") else list(run)


# --------------------------------------------------------------------------------------------- Tables: tokens

NOISE = r"""left right [bB]igg?[lrm]? displaystyle textstyle scriptstyle scriptscriptstyle q?quad mathbf
    mathcal mathit boldsymbol bm rm bf it tiny scriptsize footnotesize small normalsize [lL]arge LARGE [hH]uge
    limits nolimits pounds euro yen textdollar texteuro textsterling ensuremath underline fbox""".split()
ACCENTS = dict(pair.split(":") for pair in """hat:hat widehat:hat bar:bar overline:bar tilde:tilde
    widetilde:tilde vec:vec overrightarrow:vec dot:dot ddot:ddot check:check mathring:ring""".split())
ACCENTED = re.compile(r"\\([a-z]+)[\s{]*(\\[A-Za-z]+|[A-Za-z])[\s}]*(.*)", re.S)
FONT = re.compile(r"\\(?:math(?:bf|cal|it|scr|frak)|bm|boldsymbol)\s*\{\s*([A-Za-z])\s*\}")
TOKEN = re.compile(r"""
    (?P<row>\\\\(?:\[[\w. ]*\])?)
  | (?P<noise>[\s$£€¥₹₽₩₺₫₱~\u200b\u2060\ufeff]+ | \\[$,;:!>\s/()\[\]] | \\(?:left|right)\.
      | \\(?:tag\*?|label|[hv]space\*?|[hv]?phantom)\s*\{[^{}]*\} | \\(?:NOISE)(?![A-Za-z]))
  | (?P<environment>\\(?:begin|end)\s*\{[A-Za-z]+\*?\}(?:(?<=n\{array\})\s*\{[clr|\s]*\})?)
  | \\(?:text[a-z]*|mbox|hbox|mathrm|mathsf|mathtt|operatorname\*?)\s*\{(?P<words>[^{}]*)\}
  | (?P<reals>\\mathbb\s*\{?R\}?|\\R(?![A-Za-z])|ℝ)
  | (?P<degree>\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree(?![A-Za-z])|(?<=[0-9])\\circ)
  | (?P<mixed>(?P<whole>[0-9]{1,3}(?:\s[0-9]{3})+|[0-9]+)
      (?:\s*\\[dt]?frac\s*(?:\{\s*[0-9]+\s*\}|[0-9])\s*(?:\{\s*[0-9]+\s*\}|[0-9])|\s+[0-9]+/[0-9]+))
  | (?P<repeating>[0-9]*\.[0-9]*\s*\\(?:overline|bar|dot)\s*(?:\{[0-9]+\}|[0-9]))
  | (?P<spaced>[0-9]{1,3}(?:(?:,\\!\s*|\s*\{,\}\s*|\\[,;:\s]\s*|~|\s)[0-9]{3})+(?![0-9])(?:\.[0-9]+)?)
  | (?P<commas>(?<![0-9],)[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])(?:\.[0-9]+)?)
  | (?P<scientific>(?:[0-9]+\.[0-9]*|1)[eE][+-]?[0-9]+ | [0-9]+[eE][0-9]+)
  | (?P<float>[0-9]+[eE](?:-(?:[5-9]|[0-9]{2,})|\+[0-9]{2,})(?=\s*(?:[,;)}\]$=.]|$)))
  | (?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)
  | (?P<accent>\\(?:ACCENT)(?![A-Za-z])\s*
      (?:\{\s*(?:\\[A-Za-z]+|[A-Za-z])\s*\}|\\[A-Za-z]+|[A-Za-z])(?:\s*_\s*(?:\{[^{}]*\}|\w))?)
  | (?P<name>(?:[A-Za-z]|\\[A-Za-z]+(?<!log))
      (?:'+(?:\s*_\s*(?:\{[^{}]*\}|\w|\\[a-z]+))?|\s*_\s*(?:\{[^{}]*\}|\w|\\[a-z]+)))
  | (?P<run>[A-Za-z]{2,}(?![A-Za-z]*\s*[_']))
  | (?P<other>\\[A-Za-z]+|\\.|.)
""".replace("NOISE", "|".join(NOISE)).replace("ACCENT", "|".join(ACCENTS)), re.X | re.S)
KINDS = {"row": "\\row", "reals": "\\reals", "degree": "\\degree"}
CLEANED = {"name": r"[\s{}]|\\(?:text|mathrm|rm)(?![a-z])", "environment": r"[\s*]|(?<=n\{array\}).*"}
ALIASES = dict(pair.split(":") for pair in r"""\dfrac:\frac \tfrac:\frac \cfrac:\frac \dbinom:\binom
    \tbinom:\binom \times:* \cdot:* \ast:* \div:/ \lbrace:\{ \rbrace:\} \vert:| \mid:| \leq:\le \leqslant:\le
    \geq:\ge \geqslant:\ge \lt:< \gt:> \neq:\ne \varnothing:\emptyset \lor:\or \land:\and \%:"percent
    %:"percent \pmod:\mod \bmod:\mod \Vert:\| \backslash:\setminus \smallsetminus:\setminus""".split())
UNICODE = str.maketrans({pair[0]: pair[2:].replace("_", " ") for pair in r"""−:- –:- ·:* ⋅:* ×:* ÷:/ ≤:\le_
    ≥:\ge_ ≠:\ne_ ∞:\infty_ π:\pi_ θ:\theta_ √:\sqrt_ ∪:\cup_ ∩:\cap_ ∈:\in_ ∅:\emptyset_ ±:\pm_ °:^\circ_
    ½:\frac{1}{2} ⅓:\frac{1}{3} ⅔:\frac{2}{3} ¼:\frac{1}{4} ¾:\frac{3}{4} ‖:\|""".split()})
RAISED, LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "₀₁₂₃₄₅₆₇₈₉"
PLAIN = str.maketrans(RAISED + LOWERED, "0123456789+-n0123456789")
METRES = re.compile(r"^([0-9.,\s]*[0-9]\s*)([a-z]{1,2})[²³]$")
EDGES = re.compile(r"""^(?:\s|\\[,;:!\ ]|\\displaystyle(?![A-Za-z]))+
    | (?<![\s,;])(?<!\\[!:])(?:\s|\\[,;:!\ ]|(?<!\.)\.)+$""", re.X)
WRAPPER = re.compile(r"""(?:
    (?:\\(?:boxed|fbox|text[a-z]*|mbox|hbox|math(?:rm|bf|sf|it|tt)|operatorname|bm|boldsymbol
    |ensuremath)\s*)?\{(.*)\}
    | \$+(.*[^\\])\$+ | \\\((.*)\\\) | \\\[(.*)\\\]
    | "([^"]*)" | “([^”]*)” | ‘([^’]*)’ | '([^']*)' | ``(.*)''
    | \*\*([^*]*)\*\*)(?:\s|\\[,;:!])*""", re.S | re.X)
WORDS = {text: reading for reading, texts in {
    r"\and": "and", r"\or": "or", r"\mod": "mod,modulo", r"\infty": "infinity,+infinity,positive infinity",
    r"- \infty": "-infinity,minus infinity,negative infinity", r"\emptyset": "empty set,the empty set",
    r"\reals": "all real numbers,all reals,any real number,every real number,real numbers,the real numbers,"
                "the set of all real numbers,set of all real numbers"}.items() for text in texts.split(",")}
BEGINNINGS = {*", ; ( [ { = < > & \\{ \\and \\or \\le \\ge \\in \\pm \\row".split()}


# ----------------------------------------------------------------------------------- Tables: shapes and words

CAPITALS = {*"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
INVERTED = re.compile(
    r"(?<!\S)(?:[A-Z]|[A-Z] [A-Z] \)) \^ (?:\{ )?(?:- 1|T)(?!\S)|[NSEW] \S+ \\degree [NSEW]")
CHOICES = {*"ABCDEFGHIJabcdfghj"}  # a letter alone is a choice: c = C = (C) = \text{(C)}
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}
WEIGHTS = {**dict.fromkeys("( [ { \\{ \\langle \\lfloor \\lceil \\lvert \\lVert".split(), 1),
           **dict.fromkeys(") ] } \\} \\rangle \\rfloor \\rceil \\rvert \\rVert".split(), -1)}
ALIGNMENTS = {f"\\begin{{{name}}}" for name in ("aligned", "align", "split", "eqnarray")}
COLUMNS = ALIGNMENTS | {f"\\begin{{{name}}}" for name in ("array", "cases", "gathered", "gather", "equation")}
NO_ANSWERS = {"", *re.split(r",\s*", """n/a,n.a,nan,null,notfound,not found,not available,not applicable,
    not provided,no answer,no answer provided,no answer found,
    answer not found,answer not provided,no final answer,
    missing,unknown,tbd,todo,see solution,see above,see below,see explanation,to be proved,proved,
    proven,prove,q.e.d,qed,omitted""")}
DICTIONARY = re.compile(r"""[\[(\s]*\{\s*(?:['"].*['"]\s*:|\d+:\s)""", re.S)

GREEK = {"\\" + name for name in """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa
    lambda mu nu xi rho sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi
    Psi Omega ell""".split()}
# Letters that are factors before a sum, as in a(b+c). Others are functions there, and all are in y(2), y(x).
USUAL_FACTORS = {*"abcdjklmnopqrstvwxyzABCDKLMNRV"} | {"\\" + name for name in """alpha beta gamma epsilon
    varepsilon theta vartheta kappa lambda mu nu xi rho sigma omega""".split()}
ALWAYS = {*"fgFG", *r"\Gamma \zeta \phi \varphi \Phi \psi \Psi".split()}  # functions also in f^2(x)
NAME = (r"(?![ei](?: |$)|\\(?:Gamma|zeta)(?: |$))(?:[A-Za-z]|" + "|".join(map(re.escape, sorted(GREEK)))
        + r")(?:[_'~]\S*)?")
ARGUMENTS = rf"(?: \^ (?:- 1|\( \w+ \)))? \( (?:{NAME}|\d+)(?: , (?:{NAME}|\d+))* \)"
LABEL = re.compile(rf'{NAME}(?:{ARGUMENTS})?|\( {NAME}(?: , {NAME})+ \)|"[a-z ]+'
                   r"|(?:(?:m )?\\angle [A-Z]|[A-Z] [A-Z])(?: [A-Z]){0,2}")

UNIT = re.compile(r'"[a-z]+\.?(?:\^?[23])?(?:(?: ?[/.*-] ?| )"?[a-z]+\.?(?:\^?[23])?){0,3}'
                  r'(?: \^ (?:- )?[0-9]| \^ \{ (?:- )?[0-9] \})?')
SHORT_UNITS = {*"cm mm km kg mg ml ft hr".split()}  # other pairs of letters after a value are products
CURRENCIES = {'"' + name for name in "usd eur gbp inr jpy cny rmb cad aud us rs".split()}
NEVER_FIRST, NEVER_LAST = {*"squared cubed per old total".split()}, {*"per square cubic sq cu".split()}
UNITS = {*"""m g s h l j v c f km cm mm nm um kg mg lb oz ml dl cl ft in yd mi hr min ms kmh kph mph rpm hz
    khz mhz pa kpa atm kw mw kwh mol ev kj kcal cal db bit byte kb mb gb sq cu millimeter centimeter meter
    kilometer millimetre centimetre metre kilometre mile foot feet inch yard acre hectare league light
    milligram gram kilogram ton tonne pound ounce liter litre milliliter gallon quart pint cup teaspoon
    tablespoon second sec minute hour day week month year decade century centuries degree radian celsius
    fahrenheit kelvin newton joule watt volt ampere amp ohm hertz pascal coulomb mole calorie knot percent
    percentage point dollar cent euro rupee yuan yen peso ruble rouble franc penny pence pennies nickel dime
    usd eur gbp inr jpy cny rmb cad aud rs us square cubic squared cubed unit step per people person student
    child children kid teacher worker player team member friend passenger apple orange banana book pencil pen
    marble ball coin card chair table car bus bicycle bike ticket candy candies cookie egg stamp tree flower
    bird fish dog cat cow horse sheep chicken rabbit box page word letter solution root value way outcome
    possibility possibilities arrangement permutation combination choice path route game match round move turn
    time lap side edge vertex vertices face diagonal triangle line segment rectangle polygon piece part item
    object element subset group row column tile block brick bag bottle glass jar pack seat room house floor
    problem question test old total""".split()}


# ------------------------------------------------------------------------------------- Tables: the calculator

INTEGERS = {name: shift for shift, name in enumerate("klmnN")}
RING = (17, 12, 20, 15, 11, 22, 14, 19, 13, 21, 16, 18)  # what they run through, each from its own start
PAIRS = {"(": ")", "[": "]", "{": "}", "|": "|", "\\lvert": "\\rvert", "\\lVert": "\\rVert",
         "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
ROUNDED = {**dict.fromkeys(("|", "\\lvert"), lambda z: settle(abs(z))),
           "\\lfloor": floor, "\\lceil": lambda x: -floor(-x)}

ONE, MINUS_ONE, CHEAP = Fraction(1), (Fraction(-1),), (add, operator.neg, multiply, divide)
CONSTANTS = {"\\pi": mp.mpf(mp.pi), "e": mp.mpf(mp.e), "i": mp.mpc(0, 1)}
DEGREE = divide(CONSTANTS["\\pi"], Fraction(180))
SIN, COS, SINH, COSH = wave(mp.sin), wave(mp.cos), wave(mp.sinh), smooth(mp.cosh, 64)
LOG, ARCCOS, ARCSIN = smooth(mp.log, MAX_MAGNITUDE, -MAX_MAGNITUDE), smooth(mp.acos, 64), smooth(mp.asin, 64)
FUNCTIONS = {"\\" + name: f for names, f in {
    "sin": SIN, "cos": COS, "tan": lambda z: divide(SIN(z), COS(z)), "cot": lambda z: divide(COS(z), SIN(z)),
    "sec": lambda z: divide(ONE, COS(z)), "csc": lambda z: divide(ONE, SIN(z)),
    "arcsin asin": ARCSIN, "arccos acos": ARCCOS, "arctan atan": smooth(mp.atan, 64),
    "arcsec": lambda z: ARCCOS(divide(ONE, z)), "arccsc": lambda z: ARCSIN(divide(ONE, z)),
    "sinh": SINH, "cosh": COSH, "tanh": smooth(mp.tanh, 6), "coth": smooth(mp.coth, 6),
    "sech": lambda z: divide(ONE, COSH(z)), "csch": lambda z: divide(ONE, SINH(z)),
    "arcsinh arsinh asinh": smooth(mp.asinh, 64), "arccosh arcosh acosh": smooth(mp.acosh, 64),
    "arctanh artanh atanh": smooth(mp.atanh, 64), "exp": lambda z: power(CONSTANTS["e"], z),
    "ln log": LOG, "lg": lambda z: divide(LOG(z), LOG(Fraction(10))), "Li": lambda z: polylogarithm(None, z),
    "erf": special(mp.erf, -8, 8, 500), "erfc": special(mp.erfc, -8, 8, 500),
    "Si": special(mp.si, -64, 64, 500), "Ci": special(mp.ci, 0, 64, 500),
    "Ei": special(mp.ei, -64, 64, 800), "li": special(mp.li, 0, 2**64, 2000),
}.items() for name in names.split()}
BASED = {"\\log": lambda base, z: divide(LOG(z), LOG(base)), "\\Li": polylogarithm}
ANGULAR = {*r"\sin \cos \tan \cot \sec \csc".split()}  # where 30° is pi/6; elsewhere it is 30
INVERSES = {"\\" + name: "\\arc" + name for name in "sin cos tan sec csc sinh cosh tanh".split()}
SPECIAL = {
    "\\Gamma": lambda x: factorial(add(x, -ONE)), "\\zeta": zeta,
    "\\psi": special(mp.digamma, -999, 999, 2000),
    **dict.fromkeys(("W", "W_0"), special(mp.lambertw, -0.36, 1 << 64, 800)),
    **{f"J_{n}": special(lambda x, n=n: mp.besselj(n, x), -16, 16, 500) for n in range(10)},
}
FACTORS = {*CONSTANTS, *FUNCTIONS, *PAIRS, "\\frac", "\\binom", "\\sqrt"} - {"|"}
