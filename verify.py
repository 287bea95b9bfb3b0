r"""verify.py: is this answer the gold answer?  A rule-based verifier of mathematical answers written in LaTeX.

    extract_answer(response)   what stands in the last complete \boxed{...}
    canonical(answer)          what an answer means, as a hashable `Reading`: built once, compared many times
    equivalent(gold, answer)   do two readings agree?
    reward(response, gold)     1.0 or 0.0: what reinforcement learning needs
    group(answers)             a class label for each answer: what voting needs

How. An answer is cut into tokens; its outer shape (list, set, tuple, interval, union, matrix, equation, inequality, number in a
base, text) becomes a nested tuple; each formula inside is *calculated* while it is parsed: exactly, in fractions, as far as that
goes, and to 300 digits beyond. A formula with variables is calculated at several fixed rational points at once, and two formulas
that agree at all of them are the same (polynomial identity testing): nothing is ever simplified. Comparing two answers is then
comparing two plain values. What cannot be read is text, and equals only the same text.

Why it is safe with any input. There is no `eval`, no computer algebra, no general LaTeX parser: only the calculator below touches
an answer, and each of its operations is bounded *before* it is done, by length, depth, digits, exponents and total work.
So nothing hangs, no timeout is needed, and a verdict does not depend on the machine or its load.

Leniencies, all of them: units, currency, degree and percent signs beside a number are dropped (25\% is 25, not 0.25); the name
in `x = 5` or `f(n) = 2n+1` is optional; a list has no order, and a set of one is its member; words have neither case nor font;
`\log` is natural; 2^10 is 2^{10}; k, l, m, n, N are positive integers, other variables real. Where the rules leave a doubt two answers
differ: in reinforcement learning a false "right" gets exploited, a false "wrong" only costs a sample.
"""
import math
import operator
import re
import threading
import zlib
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, product
from typing import NamedTuple

import mpmath  # comes with sympy; nothing else of sympy is needed

MAX_TAIL = 1 << 17  # characters at the end of a response in which its answer is looked for
MAX_LENGTH = 2000  # characters: a longer answer equals only itself
MAX_DEPTH = 20  # brackets, fractions, radicals and functions inside each other
MAX_BITS = 1 << 15  # of an exact number's numerator and denominator: 9,864 digits
MAX_WORK = 40_000  # of one answer, in steps of about a microsecond
MAX_MAGNITUDE = 1 << 16  # an inexact number lies between 2^-65536 and 2^65536
BITS, KEY_BITS = 1024, 400  # of an inexact number: bits calculated, bits that two equal numbers share

mp = mpmath.MPContext()  # a context of our own: nobody else's precision matters
mp.prec = BITS
LOCK = threading.Lock()  # mpmath changes its precision while it works and caches constants: one thread at a time


class Refused(Exception):
    """Not a value, or too costly a one. Never leaves this file: the answer is then read as text."""


# ---------------------------------------------------------------------------------------------------------------------
# The answer in a response

def extract_answer(response: str) -> str | None:
    r"""The content of the last complete \boxed{...} in the last `MAX_TAIL` characters, or None.

    Last is the one that closes last, so of nested ones the outer. Braces must balance; `\{` and `\}` do not count.
    """
    tail, answer, opened = response[-MAX_TAIL:], None, []
    if "\\boxed" not in tail:
        return None
    for brace in re.finditer(r"\\boxed\s{0,9}\{|\\.|[{}]", tail, re.S):
        if brace[0] == "{" or brace[0].startswith("\\boxed"):
            opened.append(brace.end() if brace[0] != "{" else None)
        elif brace[0] == "}" and opened and (start := opened.pop()) is not None:
            answer = tail[start : brace.start()]
    return answer


# ---------------------------------------------------------------------------------------------------------------------
# Numbers: Fraction while exact, then mpf, or mpc when complex. Invariant: no mpf is a simple fraction in disguise, no mpc is real.

def bits(q: Fraction) -> int:
    return max(q.numerator.bit_length(), q.denominator.bit_length())


def bounded(q: Fraction) -> Fraction:
    if bits(q) > MAX_BITS:
        raise Refused("too many digits")
    return q


def inexact(z):
    """The number for mpmath."""
    return mp.mpf(z.numerator) / z.denominator if isinstance(z, Fraction) else z


def settle(z):
    """An mpmath result without its rounding noise, so that the invariant holds."""
    if isinstance(z, Fraction):
        return z
    if not mp.isfinite(z):
        raise ZeroDivisionError
    if not z:
        return Fraction(0)
    if abs(mp.mag(z)) > MAX_MAGNITUDE:
        raise Refused("too large or too small")
    if isinstance(z, mp.mpc):
        real, imag = (part if part and mp.mag(part) > mp.mag(z) - BITS // 2 else mp.zero for part in (z.real, z.imag))
        return mp.mpc(real, imag) if imag else rational(real)
    return rational(z)


def rational(x):
    """The fraction that a real number agrees with to more than a hundred digits, if there is one, else the number itself.

    Its continued fraction tells: that of sqrt(2)^2 = 2.00...01 goes on with a term near 10^300, that of an irrational does not.
    """
    sign, mantissa, exponent, _ = x._mpf_
    if not mantissa or abs(mp.mag(x)) > 200:
        return x if mantissa else Fraction(0)
    a, b = (mantissa << exponent, 1) if exponent >= 0 else (mantissa, 1 << -exponent)
    p0, p, q0, q = 0, 1, 1, 0
    while q < 1 << 80:
        term, rest = divmod(a, b)
        p0, p, q0, q = p, term * p + p0, q, term * q + q0
        if not rest or b.bit_length() - rest.bit_length() > KEY_BITS:
            return Fraction(-p if sign else p, q)
        a, b = b, rest
    return x


def number_key(z):
    """A hashable that equal numbers share: the fraction, or the first KEY_BITS bits as a fraction, or those of both complex parts.

    Rounding could part two calculations of one irrational only if it lay within 2^-500 of a rounding boundary.
    """
    if isinstance(z, Fraction):
        return z
    if isinstance(z, mp.mpc):
        return ("complex", number_key(rational(z.real)), number_key(rational(z.imag)))
    sign, mantissa, exponent, _ = mpmath.libmp.mpf_pos(z._mpf_, KEY_BITS, "n")
    return Fraction(-mantissa if sign else mantissa) * Fraction(2) ** exponent


def arithmetic(operation):
    def calculate(a, b):
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return bounded(operation(a, b))
        return settle(operation(inexact(a), inexact(b)))
    return calculate


multiply, divide = arithmetic(operator.mul), arithmetic(operator.truediv)


def add(a, b):
    if isinstance(a, Fraction) and isinstance(b, Fraction) or not a or not b:
        return bounded(a + b) if isinstance(a, Fraction) and isinstance(b, Fraction) else a or b
    total = inexact(a) + inexact(b)
    small, large = sorted((mp.mag(inexact(a)), mp.mag(inexact(b))))
    if not total or mp.mag(total) < large - BITS // 2:
        return Fraction(0)  # the terms cancel: what is left of them is rounding noise
    if small < large - KEY_BITS + 100:
        raise Refused("a term too small to be seen beside the other")
    return settle(total)


def power(a, b):
    """a^b: exact where it can be; of a negative number the real root if there is one, so (-8)^{1/3} = -2."""
    if not a and not (isinstance(b, Fraction) and b > 0):
        raise ZeroDivisionError
    if isinstance(b, Fraction):
        if b.denominator % 2 and b.denominator > 1 and not isinstance(a, mp.mpc) and a < 0:
            return power(-a, b) * (-1) ** b.numerator
        if isinstance(a, Fraction) and b.denominator == 2 and a > 0:
            root = Fraction(math.isqrt(a.numerator), math.isqrt(a.denominator))
            a, b = (root, b * 2) if root * root == a else (a, b)
        if b.denominator == 1:
            b = b.numerator
            if isinstance(a, Fraction):
                if abs(a) == 1 or not a:
                    return a ** (b % 2 or 2)
                if abs(b) > MAX_BITS or math.log2(max(abs(a.numerator), a.denominator)) * abs(b) > MAX_BITS:
                    raise Refused("power too large")
                return a**b
    a, b = inexact(a), b if isinstance(b, int) else inexact(b)
    if b and mp.mag(b) + mp.mag(mp.log(a) or 1) > MAX_MAGNITUDE.bit_length():
        raise Refused("power too large")
    return settle(mp.power(a, b))


def smooth(f, limit: int):
    """An mpmath function as one of ours, for arguments below 2^limit."""
    def calculate(z):
        if z and mp.mag(inexact(z)) > limit:
            raise Refused("argument too large")
        return settle(f(inexact(z)))
    return calculate


def wave(f):
    """sin or cos: beside 1, their scale, a value of 2^-512 is rounding noise, and tan 90 degrees must find a zero to divide by."""
    return smooth(lambda z: value if mp.mag(value := f(z)) > -BITS // 2 else mp.zero, 64)


def floor(x):
    if isinstance(x, mp.mpc):
        raise ZeroDivisionError
    if not isinstance(x, Fraction) and mp.mag(x) > BITS // 2:
        raise Refused("too large to round")
    return Fraction(math.floor(x) if isinstance(x, Fraction) else int(mp.floor(x)))


def factorial(x):
    """x!, by the gamma function where x is not an integer."""
    if isinstance(x, mp.mpc) or abs(x) > 3000:
        raise Refused("factorial too large")
    if not isinstance(x, Fraction) or x.denominator > 1:
        return settle(mp.gamma(inexact(x) + 1))
    if x < 0:
        raise ZeroDivisionError
    return bounded(Fraction(math.factorial(x.numerator)))


def binomial(n, k):
    """n over k: a polynomial in n where that is no integer."""
    if not (isinstance(n, Fraction) and isinstance(k, Fraction)) or k.denominator > 1 or k < 0:
        raise Refused("binomial of this")
    n, k = (n.numerator, k.numerator) if n.denominator == 1 and n >= 0 else (n, k.numerator)
    if isinstance(n, int) and min(k, n - k) * n.bit_length() <= MAX_BITS:
        return Fraction(math.comb(n, k))
    if k > 30:
        raise Refused("binomial too large")
    return bounded(math.prod(((n - j) / Fraction(j + 1) for j in range(k)), start=Fraction(1)))


SIN, COS, LOG, ONE = wave(mp.sin), wave(mp.cos), smooth(mp.log, MAX_MAGNITUDE), Fraction(1)
FUNCTIONS = {
    "\\sin": SIN, "\\cos": COS, "\\tan": lambda z: divide(SIN(z), COS(z)), "\\cot": lambda z: divide(COS(z), SIN(z)),
    "\\sec": lambda z: divide(ONE, COS(z)), "\\csc": lambda z: divide(ONE, SIN(z)),
    "\\arcsin": smooth(mp.asin, 64), "\\arccos": smooth(mp.acos, 64), "\\arctan": smooth(mp.atan, 64),
    "\\ln": LOG, "\\log": LOG, "\\exp": lambda z: power(CONSTANTS["e"], z),
}  # fmt: skip
CONSTANTS = {"\\pi": mp.mpf(mp.pi), "e": mp.mpf(mp.e), "i": mp.mpc(0, 1)}
ANGULAR = ("\\sin", "\\cos", "\\tan", "\\cot", "\\sec", "\\csc")  # where 30° is pi/6; elsewhere it is 30
INVERSES = {"\\sin": "\\arcsin", "\\cos": "\\arccos", "\\tan": "\\arctan"}


# ---------------------------------------------------------------------------------------------------------------------
# Tokens: a number "12.5", a name "x_1", a command "\\frac", a word '"inches', or a character

TOKEN = re.compile(r"""
    (?P<row>\\\\(?:\[[\w. ]*\])?)
  | (?P<noise>[\s$£€~]+ | \\[$,;:!>\s/()\[\]]
      | \\(?:left|right)\. | \\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|[lL]arge|q?quad|mathbf|mathcal|mathit|boldsymbol|rm|bf|it)(?![A-Za-z]))
  | (?P<environment>\\(?:begin|end)\s*\{[A-Za-z]+\*?\}(?:(?<=n\{array\})\s*\{[clr|\s]*\})?)
  | \\(?:text[a-z]*|mbox|hbox|mathrm|mathsf|operatorname)\s*\{(?P<words>[^{}]*)\}
  | (?P<reals>\\mathbb\s*\{?R\}?)
  | (?P<degree>\^\s*(?:\\circ|\{\s*\\circ\s*\}))
  | (?P<mixed>[0-9]+\s*\\[dt]?frac\s*(?:\{\s*[0-9]+\s*\}|[0-9])\s*(?:\{\s*[0-9]+\s*\}|[0-9]) | [0-9]+\s+[0-9]+/[0-9]+)
  | (?P<repeating>[0-9]*\.[0-9]*\s*\\(?:overline|bar|dot)\s*(?:\{[0-9]+\}|[0-9]))
  | (?P<spaced>[0-9]{1,3}(?:(?:,\\!\s*|\{,\}|\\[,;:\s]\s*|~|\s)[0-9]{3})+(?![0-9])(?:\.[0-9]+)?)
  | (?P<commas>(?<![0-9],)[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])(?:\.[0-9]+)?)
  | (?P<scientific>(?:[0-9]+\.[0-9]*|1)[eE][+-]?[0-9]+ | [0-9]+[eE][0-9]+)
  | (?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)
  | (?P<name>(?:[A-Za-z]|\\[A-Za-z]+(?<!log))(?:'+(?:\s*_\s*(?:\{[^{}]*\}|\w|\\[a-z]+))?|\s*_\s*(?:\{[^{}]*\}|\w|\\[a-z]+)))
  | (?P<run>[A-Za-z]{2,}(?![A-Za-z]*\s*[_']))
  | (?P<other>\\[A-Za-z]+|\\.|.)
""", re.X | re.S)  # fmt: skip
ALIASES = dict(pair.split(":") for pair in r"""\dfrac:\frac \tfrac:\frac \cfrac:\frac \dbinom:\binom \tbinom:\binom \times:* \cdot:* \ast:*
    \div:/ \lbrace:\{ \rbrace:\} \vert:| \mid:| \leq:\le \leqslant:\le \geq:\ge \geqslant:\ge \lt:< \gt:> \neq:\ne \varnothing:\emptyset
    \lor:\or \land:\and \%:"percent %:"percent \degree:\circ""".split())  # fmt: skip
UNICODE = str.maketrans({
    "−": "-", "–": "-", "·": "*", "⋅": "*", "×": "*", "÷": "/", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∞": r"\infty ", "π": r"\pi ",
    "√": r"\sqrt ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset ", "±": r"\pm ", "°": r"\circ ", "²": "^2 ", "³": "^3 ", "θ": r"\theta ",
})  # fmt: skip
GREEK = {"\\" + name for name in """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho sigma tau
    phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell""".split()}  # fmt: skip
UNITS = {"cm", "mm", "km", "kg", "mg", "ml", "ft", "hr"}  # after a number these are units; other pairs of letters are products


def tokenize(answer: str) -> list[str]:
    """The tokens of an answer: its noise (spaces, sizes, dollars) left out, its numbers and synonyms in one spelling."""
    text = answer.translate(UNICODE).replace("\\left|", "\\lvert ").replace("\\right|", "\\rvert ")
    tokens, position, nested = [], 0, 0
    while position < len(text):
        match = TOKEN.match(text, position)
        kind, token, start, position = match.lastgroup, match[0], position, match.end()
        if kind == "words":
            tokens += read_words(match["words"])
        elif kind == "run":
            tokens += read_run(token, text[start - 1 : start], text[position : position + 1], tokens)
        elif kind == "mixed":
            whole, n, *d = re.findall("[0-9]+", token)
            n, d = (n, d[0]) if d else (n[0], n[1])  # 1\frac45
            if 0 < int(n) < int(d) and n[0] != "0" and tokens[-1:] not in (["^"], ["_"], ["\\frac"], ["\\sqrt"]):
                tokens += ["(", whole, "+", n, "/", d, ")"]
            else:  # 2\frac{7}{3} is a product
                tokens, position = [*tokens, whole], start + len(whole)
        elif kind == "repeating":  # 0.1\overline{6} = (16 - 1) / 90
            fixed, period = re.fullmatch(r"([0-9.]*)\D*([0-9]+)\D*", token).groups()
            digits, places = fixed.replace(".", ""), len(fixed.split(".")[1])
            tokens += ["(", str(int(digits + period) - int(digits or 0)), "/", "9" * len(period) + "0" * places, ")"]
        elif kind in ("spaced", "commas"):
            groups = re.split(r"[^0-9.]+", token)
            if kind == "commas" and nested and not any(part[0] == "0" for part in groups[1:]):
                groups, position = groups[:1], start + len(groups[0])  # (100,200) is a pair, though (1,000) is not
            tokens.append("".join(groups))
        elif kind == "scientific":
            mantissa, exponent = re.split("[eE]", token)
            tokens += ["(", mantissa, "*", "10", "^", "{", *re.findall("[+-]|[0-9]+", exponent), "}", ")"]
        elif kind != "noise":
            token = {"name": re.sub(r"[\s{}]|\\(?:text|mathrm|rm)(?![a-z])", "", token), "row": "\\row", "reals": "\\reals", "degree": "\\circ",
                     "environment": re.sub(r"[\s*]|(?<=n\{array\}).*", "", token)}.get(kind, token)  # fmt: skip
            tokens.append(ALIASES.get(token, token))
            nested += WEIGHTS.get(token, 0) if token not in "{}" else 0
    return tokens


def read_words(words: str) -> list[str]:
    r"""\text{...}: "and" and "or" separate; upright e, i and function names are themselves; everything else is one word token."""
    words = re.sub(r"[\s~]+|\\[ ,;:!]", " ", words).strip(" $\\")
    words = words if words in (",", ";") else words.strip(" ,;")
    if words.lower() in ("and", "or") or "\\" + words in FUNCTIONS:
        return ["\\" + words.lower()]
    return [words] if words in ("e", "i", ",", ";") or re.fullmatch("[0-9]+", words) else ['"' + words.lower()] if words else []


def read_run(run: str, before: str, after: str, tokens: list[str]) -> list[str]:
    """Two or more letters outside \\text: a function, a separator, a word, a unit, or a product of variables. A product has two letters
    (`xy`), or neighbours in the alphabet (`abc`), or touches something other than a space."""
    letters = sorted(run.lower())
    alone = before in tuple(" (~}.,/-:;\n") + ("",) and after in tuple(" )~,.;:-/\\!?'\n$") + ("",)
    neighbours = len(run) == 2 or len(set(letters)) == len(run) and ord(letters[-1]) - ord(letters[0]) < 5
    if "\\" + run in FUNCTIONS or run in ("pi", "sqrt", "infty") or alone and run in ("or", "and"):
        return ["\\" + run]
    unit = run in UNITS and tokens and tokens[-1][0].isdigit()
    return ['"' + run.lower()] if alone and (not neighbours or unit or run.lower() == "no") else list(run)


def is_name(token: str) -> bool:
    """A variable: x, x_1, f', \\theta. The constants e and i are none."""
    base = re.split("[_']", token)[0]
    return token not in CONSTANTS and (base in GREEK or len(base) == 1 and base.isascii() and base.isalpha())


# ---------------------------------------------------------------------------------------------------------------------
# Formulas: a recursive-descent calculator. A value is a tuple: one number, or one for each point where the variables are tried.

INTEGERS = {name: shift for shift, name in enumerate("klmnN")}
RING = (17, 12, 20, 15, 11, 22, 14, 19, 13, 21, 16, 18)  # what they run through, each from its own start
PAIRS = {"(": ")", "[": "]", "{": "}", "|": "|", "\\lvert": "\\rvert", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
ROUNDED = {"|": lambda z: settle(abs(z)), "\\lvert": lambda z: settle(abs(z)), "\\lfloor": floor, "\\lceil": lambda x: -floor(-x)}
FACTORS = {*CONSTANTS, *FUNCTIONS, *PAIRS, "\\frac", "\\binom", "\\sqrt"} - {"|"}


class Calculator:
    r"""The points of one answer, and the parser that calculates its formulas there while it counts the work.

    All variables are positive at 6 points (at 52 where there is a floor, so that integers run through 2 to 41). For each real variable there is one more point,
    where it alone is negative: so |x| is not x, yet \sqrt{ab} is \sqrt a\sqrt b, since neither is real where just one is negative.
    """

    def __init__(self, tokens: list[str]):
        names = sorted({token for token in tokens if is_name(token)})
        self.main, self.flips = 52 if {"\\lfloor", "\\lceil"} & {*tokens} else 6, [name for name in names if name not in INTEGERS][:8]
        self.points, self.work = {name: self.values(name) for name in names}, MAX_WORK

    def values(self, name: str) -> tuple[Fraction, ...]:
        """A variable's values. They depend on its name alone: a formula must have the same ones in every answer."""
        draws = [1 + zlib.crc32(f"{name}/{j}".encode()) % 1999 for j in range(self.main)]
        if name in INTEGERS:
            ring = [n // 2 if name in "klm" else n for n in RING]  # so that m, n - k and n - m are no negative factorials
            main = [ring[(j + INTEGERS[name]) % 12] for j in range(6)] + [1 + (INTEGERS[name] + 2) * j % 41 for j in range(1, 41)] + draws[-6:]
        else:  # below 1, below 4, below 1, below 4, ...
            main = [Fraction(draw, (2048, 512)[j % 2] if j < 6 else 64) for j, draw in enumerate(draws)]
        main = [Fraction(value) for value in main[: self.main]]
        return (*main, *(-main[1] if flip == name else main[1] for flip in self.flips))

    def each(self, f, *vectors):
        """`f` at every point, None where it is undefined."""
        size, results = max(map(len, vectors)), []
        for arguments in zip(*(vector if len(vector) == size else vector * size for vector in vectors)):
            result, exact = None, all(isinstance(a, Fraction) for a in arguments)
            if not any(a is None for a in arguments):
                cheap = exact and (f in (add, operator.neg, multiply, divide) or f is power and arguments[1].denominator == 1)
                self.work -= 3 if cheap else 100
                try:
                    result = f(*arguments)
                except (ZeroDivisionError, ValueError):  # mpmath's poles are ValueErrors
                    pass
                if isinstance(result, Fraction):  # greatest common divisors of long numbers take quadratic time
                    self.work -= 2 * (bits(result) >> 10) ** 2
            if self.work < 0:
                raise Refused("too much work")
            results.append(result)
        return tuple(results)

    def value(self, tokens: list[str]):
        self.tokens, self.at, self.depth, self.in_bars, self.in_angle = list(tokens), 0, 0, False, False
        result = self.sum()
        if self.peek():
            raise Refused("something follows the formula")
        return result

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        """The next token. An empty `expected` takes any; otherwise the token must be among them."""
        token = self.peek()
        if not token or expected and token not in expected:
            raise Refused(f"found {token!r}, expected {expected}")
        self.at += 1
        return token

    def sign(self) -> bool:
        """Takes signs; is their product negative?"""
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        return negative

    def sum(self):
        total = None
        while total is None or self.peek() in ("+", "-"):
            negative, term = self.sign(), self.product()
            term = self.each(operator.neg, term) if negative else term
            total = self.each(add, total, term) if total else term
        return total

    def product(self, implicit_only: bool = False):
        """Factors from left to right: 1/2x is (1/2)x. A function without brackets takes the implicit ones: sin 2x, but not sin x cos x."""
        result = self.factor()
        while True:
            token, operation, negative = self.peek(), multiply, False
            if token in ("*", "/") and not implicit_only:
                operation, negative = divide if self.take() == "/" else multiply, self.sign()
            elif not self.multiplies(token) or implicit_only and token in FUNCTIONS:
                return result
            factor = self.factor()
            result = self.each(operation, result, self.each(operator.neg, factor) if negative else factor)

    def multiplies(self, token: str) -> bool:
        """Can a factor begin here without a sign? A number only after a bracket or factorial: 3!7!, not 3 7; a bar unless one is open."""
        if token[:1] in tuple("0123456789."):
            return self.tokens[self.at - 1] in (")", "]", "}", "|", "!")
        return token in FACTORS or is_name(token) or token == "|" and not self.in_bars

    def factor(self):
        result = self.atom()
        while self.peek() in ("^", "!", "\\circ"):
            token = self.take()
            if token == "^":
                result = self.each(power, result, self.exponent())
            elif token == "!" and self.peek() != "!":
                result = self.each(factorial, result)
            elif token == "\\circ":
                result = self.each(multiply, result, (divide(CONSTANTS["\\pi"], Fraction(180)),)) if self.in_angle else result
            else:
                raise Refused("double factorial")
        return result

    def exponent(self):
        negative = self.sign()
        result = self.atom()
        if self.peek() == "^":
            raise Refused("double superscript")
        return self.each(operator.neg, result) if negative else result

    def argument(self):
        r"""A TeX argument: a group or one token, of a number its first digit: \frac12 is a half."""
        token = self.peek()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.at : self.at + 1] = token[0], token[1:]
        return self.atom()

    def atom(self):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Refused("too deep")
        token = self.take()
        if re.match(r"\.?[0-9]", token):
            result = (bounded(Fraction(token)),)
        elif token in self.points:
            result = self.points[token]
        elif token in CONSTANTS:
            result = (CONSTANTS[token],)
        elif token in PAIRS:
            outer, self.in_bars = self.in_bars, token == "|"
            result = self.sum()
            self.take(PAIRS[token])
            self.in_bars = outer
            result = self.each(ROUNDED[token], result) if token in ROUNDED else result
        elif token in ("\\frac", "\\binom"):
            result = self.each(divide if token == "\\frac" else binomial, self.argument(), self.argument())
        elif token == "\\sqrt":
            index = self.atom() if self.peek() == "[" else (Fraction(2),)
            result = self.each(power, self.argument(), self.each(divide, (ONE,), index))
        elif token in FUNCTIONS:
            result = self.function(token)
        else:
            raise Refused(f"unknown {token!r}")
        self.depth -= 1
        return result

    def function(self, name: str):
        base = exponent = None
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                base = self.argument()
            else:
                exponent = self.exponent()
        if exponent == (Fraction(-1),):
            name, exponent = INVERSES.get(name, ""), None
        if not name or base and name != "\\log":
            raise Refused("unknown function")
        outer, self.in_angle = self.in_angle, name in ANGULAR
        bracketed = self.peek() in PAIRS  # f(x)^2 is the square of f(x), and f(x)y is f(x) times y
        negative = self.sign()
        value = self.atom() if bracketed else self.product(implicit_only=True)
        self.in_angle = outer
        value = self.each(FUNCTIONS[name], self.each(operator.neg, value) if negative else value)
        value = self.each(divide, value, self.each(LOG, base)) if base else value
        return self.each(power, value, exponent) if exponent else value

    def key(self, vector):
        """A hashable for a formula: its number if it is constant, else its values where it is real (its complex values if it never
        is). Of the points with a negative variable only those that change something count: then a variable that cancels leaves no trace."""
        keys = [None if v is None else number_key(v) for v in vector]
        self.work -= sum(bits(key) for key in keys if isinstance(key, Fraction)) >> 4  # so that a reading stays below a megabyte
        if any(isinstance(key, Fraction) for key in keys[: self.main]):
            keys = [key if isinstance(key, Fraction) else None for key in keys]
        main, flipped = keys[: self.main], keys[self.main :]
        if not any(key is not None for key in main):
            raise Refused("defined nowhere")
        changes = frozenset((name, key) for name, key in zip(self.flips, flipped) if key != main[1])
        return ("formula", tuple(main), changes) if len({*main}) > 1 or changes else main[0]


# ---------------------------------------------------------------------------------------------------------------------
# The shape of an answer

class Reading(NamedTuple):
    """What an answer means."""
    value: object  # a Fraction, an infinity, or a tuple that begins with its type: types never mix. None if it has no single value
    equation: object = None  # of an equation: left minus right, up to a constant factor
    name: str = ""  # what stands before the value: the x of `x = 5`, `x > 5` and `x \in [1,2]`, the f ( n ) of `f(n) = 2n+1`
    region: bool = False  # of an inequality: "or" unites such values, "and" intersects


INFINITY = float("inf")  # compares with fractions
WEIGHTS = {**dict.fromkeys(("(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil", "\\lvert"), 1),
           **dict.fromkeys((")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil", "\\rvert"), -1)}  # fmt: skip
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}
CHOICES = set("ABCDEFGHIJabcdfghj")  # a letter alone answers a multiple-choice question: c = C = (C) = \text{(C)}
UNIT = r'"[a-z]+\.?(?:\^?[23])?(?:(?: ?[/.*-] ?| )[a-z]+\.?(?:\^?[23])?){0,3}(?: \^ (?:- )?[0-9]| \^ \{ (?:- )?[0-9] \})?'
NAME = rf"(?![ei](?: |$))(?:[A-Za-z]|{'|'.join(map(re.escape, sorted(GREEK)))})(?:[_']\S*)?"
LABEL = re.compile(rf'{NAME}(?: \( (?:{NAME}|\d+)(?: , (?:{NAME}|\d+))* \))?|\( {NAME}(?: , {NAME})+ \)|"[a-z ]+'
                   r"|(?:(?:m )?\\angle [A-Z]|[A-Z] [A-Z])(?: [A-Z]){0,2}")  # x, f(x), f(2), (x, y), area, angle ABC, AB
NOT_UNITS = set("""or and not if is are but to mod modulo for when where than more less least most about approximately minus plus times over
    half factorial base otherwise except with without either maybe only no all real positive negative hundred thousand million billion
    trillion dozen""".split())  # fmt: skip


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
    return list(Counter(dict(value[1])).elements()) if isinstance(value, tuple) and value[0] == "list" else [value]


# A set of real numbers is a list of pairs of cuts. The cut (x, 0) lies just before x, (x, 1) just after it: [a,b) is the pair
# (a,0), (b,0), and the point a is (a,0), (a,1). So open ends, closed ends and single points need no cases of their own.

LINE = ((-INFINITY, 1), (INFINITY, 0))


def cuts(value) -> list:
    """The pairs of cuts of an interval, a union or a finite set of real numbers."""
    if isinstance(value, tuple) and value[0] == "union":
        return [pair for interval in value[1] for pair in cuts(interval)]
    if isinstance(value, tuple) and value[0] == "tuple" and len(value[2]) == 2:
        (opening, closing), (low, high) = value[1:]
        if isinstance(low, (Fraction, float)) and isinstance(high, (Fraction, float)) and low < high:
            return [((low, int(opening == "(")), (high, int(closing == "]")))]
    if all(isinstance(point, Fraction) for point in members(value)):
        return [((point, 0), (point, 1)) for point in members(value)]
    raise Refused("not a set of real numbers")


def region(pairs: list):
    """The value of a union of pairs of cuts: a finite set, one interval, or several in order that do not touch."""
    merged = []
    for low, high in sorted(pairs):
        if low >= high:
            continue  # empty
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    if all(low[0] == high[0] for low, high in merged):
        return collection(low[0] for low, _ in merged)
    intervals = [("tuple", "[("[low[1]] + ")]"[high[1]], (low[0], high[0])) for low, high in merged]
    return intervals[0] if len(intervals) == 1 else ("union", tuple(intervals))


def read_list(tokens: list[str], calculator: Calculator) -> Reading:
    """A whole answer, or what stands in the braces of a set: one item or several."""
    parts, found = split(tokens, (",", ";", "\\and", "\\or"))
    for i in reversed(range(len(found) - 1)):
        if not parts[i + 1] and found[i + 1] in ("\\and", "\\or"):  # "1, 2, and 3"
            del parts[i + 1], found[i]
    readings, name = [], ""
    for part in parts:
        for reading in dict.fromkeys(read_item(item, calculator) for item in spell_signs(part)):
            name = reading.name or name  # x = 1, 2: the name holds for what follows
            readings.append(reading._replace(name=name))
    if len(readings) == 1:
        return readings[0]
    same, values, equations = len({reading.name for reading in readings}) == 1, *zip(*(reading[:2] for reading in readings))
    if same and all(reading.region for reading in readings) and {*found} in ({"\\or"}, {"\\and"}):
        sets = [cuts(value) for value in values]
        united = sum(sets, []) if "\\or" in found else [(max(lows), min(highs)) for lows, highs in (zip(*pairs) for pairs in product(*sets))]
        return Reading(region(united), name=name, region=True)
    value = collection(values) if same and None not in values else None  # x = 1, y = 2 is not the list 1, 2
    equation = collection(equations) if None not in equations else None
    if value is None and equation is None:
        raise Refused("neither values nor equations")
    return Reading(value, equation, name if same else "")


def spell_signs(tokens: list[str]) -> list[list[str]]:
    r"""The items that \pm stands for: each sign chooses for itself."""
    signs = [i for i, token in enumerate(tokens) if token == "\\pm"]
    if tokens[:1] == ["\\{"] and enclosed(tokens):
        return [tokens]
    if len(signs) > 4:
        raise Refused("too many signs")
    choices = [dict(zip(signs, choice)) for choice in product("+-", repeat=len(signs))]
    return [[choice.get(i, token) for i, token in enumerate(tokens)] for choice in choices]


def read_item(tokens: list[str], calculator: Calculator) -> Reading:
    """A value, an equation, an inequality or a membership."""
    sides, relations = split(tokens, ("=", "\\in", *FLIPPED))
    if not relations:
        return Reading(read_value(tokens, calculator))
    if relations == ["="]:
        return read_equation(*sides, calculator)
    if relations == ["\\in"] and label(sides[0]):
        return Reading(read_value(sides[1], calculator), name=label(sides[0]))
    if not {*relations} - {*FLIPPED}:
        return read_inequality(sides, relations, calculator)
    raise Refused("a chain is not an answer")


def label(tokens: list[str]) -> str:
    """The text of what may stand before a value as its name: x, f(x), f(2), (x, y), AB, angle ABC; "" for anything else."""
    text = " ".join(token for token in tokens if token not in "{}")
    return text if LABEL.fullmatch(text) else ""


def read_equation(left: list[str], right: list[str], calculator: Calculator) -> Reading:
    """Both as an equation and, if one side is a mere name, as the value of the other."""
    value, equation, name = None, None, ""
    for side, other in ((right, left), (left, right)):
        own = side[:1] if is_name("".join(side[:1])) else side[1::2]  # the f of f(n), whose n may well appear
        if label(side) and not {*own} & {*other}:
            value, name = read_value(other, calculator), label(side)
    try:
        difference = calculator.each(add, calculator.value(left), calculator.each(operator.neg, calculator.value(right)))
        pivot = next((v for v in difference[: calculator.main] if v), None)  # dividing by it drops the constant factor
        if pivot is not None and len(difference) > 1:
            equation = ("equation", calculator.key(calculator.each(divide, difference, (pivot,))))
    except Refused:
        pass  # the other side is no number: f = \{1, 2\}
    if value is None and equation is None:
        raise Refused("nothing to solve")
    return Reading(value, equation, name)


def read_inequality(sides: list[list[str]], relations: list[str], calculator: Calculator) -> Reading:
    """x > 1, 2 <= x < 5, x != 0: intervals that have a name instead of brackets."""
    if len(sides) == 2 and not label(sides[0]) or {*relations} <= {">", "\\ge"} and len(sides) == 3:
        sides, relations = sides[::-1], [FLIPPED[relation] for relation in relations[::-1]]  # 1 < x, 5 > x > 2
    name, closed = label(sides[len(sides) - 2]), [int(relation in ("\\le", "\\ge")) for relation in relations]
    if name and len(sides) == 3 and {*relations} <= {"<", "\\le"}:
        low, high = (read_value(side, calculator) for side in sides[::2])
        return Reading(("tuple", "(["[closed[0]] + ")]"[closed[1]], (low, high)), name=name, region=True)
    bound = read_value(sides[1], calculator)
    if not name or len(sides) > 2 or not isinstance(bound, Fraction):
        raise Refused("an inequality that is not an interval")
    below, above = (LINE[0], (bound, closed[0])), ((bound, 1 - closed[0]), LINE[1])
    pairs = {"<": [below], "\\le": [below], ">": [above], "\\ge": [above], "\\ne": [below, above]}[relations[0]]
    return Reading(region(pairs), name=name, region=True)


def drop_units(tokens: list[str]) -> list[str]:
    r"""Without the words that follow a number: 15 \text{cm}^2, 60 miles per hour, 25\%. A hedge ("5 or 6") or a factor ("5 million") stays."""
    first = next((i for i, token in enumerate(tokens) if token[0] == '"'), 0)
    unit = " ".join(tokens[first:])
    words = re.findall("[a-z]+", unit)
    is_unit = first and re.fullmatch(rf"{UNIT}(?:(?: [/*])? {UNIT}){{0,3}}", unit) and not NOT_UNITS & {*words}
    return tokens[:first] if is_unit and words[0] not in ("squared", "cubed") else tokens


def read_value(tokens: list[str], calculator: Calculator):
    """The value of an item without relation."""
    tokens = drop_units(tokens)
    if not tokens:
        raise Refused("empty")
    first, last, inside = tokens[0], tokens[-1], tokens[1:-1] if enclosed(tokens) else []
    if any(token[0] == '"' for token in tokens) and not inside:
        return read_text(tokens)
    if tokens in (["\\emptyset"], ["\\{", "\\}"]):
        return collection([])
    if tokens == ["\\reals"]:
        return region([LINE])
    if last == "\\infty" and tokens[:-1] in ([], ["+"], ["-"]):
        return -INFINITY if first == "-" else INFINITY
    parts, found = split(tokens, ("\\cup",))
    if found:
        return region([pair for part in parts for pair in cuts(read_value(part, calculator))])
    if inside and first.startswith("\\begin"):
        return read_matrix(first, inside, calculator)
    if inside and first == "\\{":
        reading = read_list(inside, calculator)
        if reading.name or reading.value is None or inside == ["\\emptyset"] or inside[0] == "\\{" and enclosed(inside):
            raise Refused("a set of equations, or of one set, which is not its member")
        return collection(dict.fromkeys(members(reading.value)))  # each member once
    if inside and first in ("(", "[", "\\langle"):
        parts, found = split(inside, (",", ";"))
        if found:
            brackets = "()" if first == "\\langle" else first + last
            return ("tuple", brackets, tuple(read_value(part, calculator) for part in parts))
    if inside and (first + last in ("()", "{}") or inside[0].startswith("\\begin")):
        return read_value(inside, calculator)
    based = re.fullmatch(r"\(?([0-9][0-9A-Z]*)\)?_([0-9]+)", "".join(token for token in tokens if token not in "{}"))
    if based:
        return read_based(based[1], int(based[2]))
    if len(tokens) == 1 and first in CHOICES:
        return ("text", first.lower())
    return calculator.key(calculator.value(tokens))


def read_text(tokens: list[str]):
    """Words, in any font and case. Without words, or with commands among them, case stays: it may tell variables apart."""
    text = " ".join(token.removeprefix('"') for token in tokens)
    prose = any(token[0] == '"' for token in tokens) and "\\" not in text
    return ("text", text.lower() if prose else text)


def read_matrix(environment: str, tokens: list[str], calculator: Calculator):
    rows = [split(row, ("&",))[0] for row in split(tokens, ("\\row",))[0] if row]
    if not re.search(r"\{([pbB]|small)?matrix\}|\{array\}", environment) or len({len(row) for row in rows}) != 1:
        raise Refused("not a matrix")
    return ("matrix", tuple(tuple(read_value(cell, calculator) for cell in row) for row in rows))


def read_based(digits: str, base: int):
    """A number in a base keeps its base: 4210_5 is neither 4210_6 nor 555. Base ten is the usual one."""
    if not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in digits):
        raise Refused("not a number in this base")
    return ("base", base, int(digits, base)) if base != 10 else bounded(Fraction(int(digits)))


# ---------------------------------------------------------------------------------------------------------------------
# Comparing

WRAPPER = re.compile(r"""(?:(?:\\(?:boxed|text[a-z]*|mbox|hbox|mathrm|mathbf|mathsf|operatorname)\s*)?\{(.*)\}
    |\$+(.*[^\\])\$+ | \\\((.*)\\\) | \\\[(.*)\\\])(?:\s|\\[,;:!])*""", re.S | re.X)


def unwrap(answer: str) -> str:
    r"""An answer without a full stop, and without dollars, \boxed{...}, \text{...} or braces around all of it."""
    for _ in range(MAX_DEPTH):
        answer = re.sub(r"^(?:\s|\\[,;:!]|\\displaystyle(?![A-Za-z]))+|(?<!\.)\.(?:\s|\\[,;!])*$", "", answer.strip())
        match = WRAPPER.fullmatch(answer)
        content = next(filter(None, match.groups()), "") if match else ""
        depths = accumulate((brace == "{") - (brace == "}") for brace in re.findall(r"\\.|[{}]", content, re.S))
        if not match or min(depths, default=0) < 0:  # {1}{2} is no wrapper
            break
        answer = content
    return answer


def canonical(answer: str) -> Reading | None:
    """What an answer means: a hashable, or None for an empty answer. Never raises on a `str`."""
    if len(answer) > MAX_LENGTH:
        return Reading(("unread", answer)) if not answer.isspace() else None
    return cached_reading(answer)


@lru_cache(maxsize=1024)
def cached_reading(answer: str) -> Reading | None:
    tokens = tokenize(unwrap(answer))
    if not tokens:
        return None
    depths = list(accumulate(map(weight, tokens)))
    with LOCK:
        try:
            if depths[-1] or min(depths) < 0 or max(depths) > MAX_DEPTH:
                raise Refused("brackets do not match, or are too deep")
            return read_list(tokens, Calculator(tokens))
        except Refused:
            return Reading(read_text(tokens))
        except Exception:  # none is known; but a run of days must not end on an odd answer: read it as itself
            return Reading(("unread", answer))


def equivalent(gold: str, answer: str) -> bool:
    """Are two answers the same? Symmetric; reflexive, but for empty answers, which equal nothing.

    Two equations are compared as equations; otherwise values are compared, and an equation has the one it gives to its name.
    So `x=5` and `y=5` differ though both equal `5`: the only place where equivalence is not transitive.
    """
    first, second = canonical(gold), canonical(answer)
    if first is None or second is None:
        return False
    if first.equation is not None and second.equation is not None:
        return first.equation == second.equation
    return first.value is not None and first.value == second.value


def reward(response: str, gold: str, strict: bool = False) -> float:
    r"""1.0 if the last complete \boxed{...} of a response holds the gold answer, else 0.0. `strict` asks for exactly one `\boxed`."""
    if strict and response.count("\\boxed") != 1:
        return 0.0
    answer = extract_answer(response)
    return float(answer is not None and equivalent(gold, answer))


def group(answers: list[str | None]) -> list[int | None]:
    """For each answer the index of the first one in its class; None where there is no answer.

    A class is what `equivalent` joins, directly or through other answers, so it does not depend on their order.
    """
    readings = [None if answer is None else canonical(answer) for answer in answers]
    alone = {reading.value for reading in readings if reading and reading.equation is None}  # these join the equations that give them
    root: dict = {}

    def find(key):
        while root.setdefault(key, key) != key:
            key = root[key]
        return key

    keys = []
    for reading in readings:
        marks = [] if reading is None else [("value", reading.value)] * (reading.value in alone) + [("equation", reading.equation)]
        keys.append([mark for mark in marks if mark[1] is not None])
        for mark in keys[-1][1:]:
            root[find(mark)] = find(keys[-1][0])
    first: dict = {}
    return [None if reading is None else first.setdefault(find(marks[0]) if marks else i, i)
            for i, (reading, marks) in enumerate(zip(readings, keys))]
