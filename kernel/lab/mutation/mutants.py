# SPDX-License-Identifier: GPL-2.0-only
"""The mutants of a C file: one token, condition, call or returned value is changed in each.

There is no parser: the tokens are enough, as long as the file has the style of this project.
"""
import collections
import hashlib
import re

TOKEN = re.compile(r'''
 (?P<space>\s+|\\\n)
|(?P<comment>/\*.*?\*/|//[^\n]*)
|(?P<string>L?"(?:\\.|[^"\\])*")
|(?P<char>'(?:\\.|[^'\\])+')
|(?P<number>0[xX][0-9a-fA-F]+[uUlL]*|\d[\w.]*)
|(?P<name>[A-Za-z_]\w*)
|(?P<op><<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[-+*/%&|^~!<>=?:;,.(){}\[\]\#])
''', re.X | re.S)

Token = collections.namedtuple('Token', 'kind text start end')

CLOSING = {'(': ')', '[': ']', '{': '}'}
KEYWORDS = {'if', 'for', 'while', 'do', 'switch', 'return', 'case', 'default', 'break', 'continue',
            'goto', 'else', 'sizeof'}
TYPES = {'const', 'static', 'struct', 'union', 'enum', 'unsigned', 'signed', 'int', 'long', 'short',
         'char', 'void', 'bool', 'float', 'double', 'FILE', 'DIR', 'va_list'}
TYPE = re.compile(r'\w+_t$')

# Where an expression ends that is part of another.
STOPS = {',', ';', '?', ':', '=', '+=', '-=', '|=', '&=', '{', '}'}

# A call that is left out for these is seen by no test that ends: they hold locks, or only speak.
KEPT = re.compile(r'va_start|va_end|pthread_|sem_|fflush$|gmem_log$')

SWAPPED = {'true': 'false', 'false': 'true', 'UINT64_MAX': '0', 'SIZE_MAX': '0'}
COMPARED = {'<': ('<=', '>='), '<=': ('<', '>'), '>': ('>=', '<='), '>=': ('>', '<'),
            '==': ('!=',), '!=': ('==',)}
COMPUTED = {'+': ('-',), '-': ('+',), '*': ('/',), '/': ('*',), '%': ('/',), '&': ('|',),
            '|': ('&',), '<<': ('>>',), '>>': ('<<',), '+=': ('-=', '='), '-=': ('+=',),
            '|=': ('=',), '&=': ('=',), '++': ('--',), '--': ('++',)}


class Mutant:
    """What is written instead of the bytes from start to end of its file.

    It is named by what a later edit elsewhere leaves as it is: the function, and the text of
    its lines before and after.
    """

    def __init__(self, source, function, start, end, text):
        # As many lines as before, for what prints its own line.
        text += '\n' * (source.count('\n', start, end) - text.count('\n'))
        first = source.rfind('\n', 0, start) + 1
        last = source.find('\n', end)
        self.function = function or '-'
        self.line = source.count('\n', 0, start) + 1
        self.before = ' '.join(source[first:last].split())
        self.after = ' '.join((source[first:start] + text + source[end:last]).split())
        self.edit = start, end, text

    def applied(self, source):
        start, end, text = self.edit
        return source[:start] + text + source[end:]

    def name(self, path):
        return '\t'.join((path, self.function, self.before, self.after))


def tokenize(source):
    lines, continued = [], False
    for line in source.split('\n'):  # the preprocessor's are left out
        if continued or re.match(r'\s*#', line):
            continued = line.endswith('\\')
            line = ' ' * len(line)
        lines.append(line)
    text, tokens, at = '\n'.join(lines), [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise SystemExit('mutants.py: no token: %r' % text[at:at + 30])
        if match.lastgroup not in ('space', 'comment'):
            tokens.append(Token(match.lastgroup, match.group(), at, match.end()))
        at = match.end()
    return tokens


def pair_brackets(tokens):
    pairs, opened = {}, []
    for i, token in enumerate(tokens):
        if token.kind == 'op' and token.text in CLOSING:
            opened.append(i)
        elif token.kind == 'op' and token.text in CLOSING.values():
            pairs[i] = opened.pop()
            pairs[pairs[i]] = i
    return pairs


def constants_of(sources):
    """A constant to the next of its family, as GMEM_STATE_PRIVATE to GMEM_STATE_SHARED."""
    families = collections.defaultdict(set)
    for source in sources:
        for name in re.findall(r'\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+){2,}\b', source):
            families['_'.join(name.split('_')[:2])].add(name)
        for name in re.findall(r'\b(?:MPOL|MADV|PROT|MAP|STATUS)_[A-Z]+\b', source):
            families[name.split('_')[0]].add(name)
    following = {}
    for family in families.values():
        names = sorted(family)
        for i, name in enumerate(names):
            if len(names) > 1:
                following[name] = names[(i + 1) % len(names)]
    return following


class File:
    def __init__(self, source, constants, spare_messages=False):
        self.source = source
        self.constants = dict(constants, **SWAPPED)
        self.tokens = tokenize(source)
        self.pairs = pair_brackets(self.tokens)
        self.function, self.returns = [None] * len(self.tokens), {}
        self.find_functions()
        self.spared = self.find_messages() if spare_messages else set()
        self.found = []

    # --- tokens and their neighbours

    def text(self, i):
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ''

    def is_op(self, i, *texts):
        return self.tokens[i].kind == 'op' and self.tokens[i].text in texts

    def find_functions(self):
        end = -1
        for i, token in enumerate(self.tokens):
            if i > end and token.text == '{' and self.text(i - 1) == ')':
                opening = self.pairs[i - 1]
                name, end, j, words = self.text(opening - 1), self.pairs[i], opening - 2, []
                while j >= 0 and self.text(j) not in (';', '}', '{'):
                    words.append(self.text(j))
                    j -= 1
                self.returns[name] = words
                self.function[i:end + 1] = [name] * (end + 1 - i)

    def arguments(self, opening):
        """The first and last token of each argument of a call."""
        end, i = self.pairs[opening], opening + 1
        first = i
        while i <= end:
            if i == end or self.is_op(i, ','):
                if i > first:
                    yield first, i - 1
                first = i + 1
            i = self.pairs[i] + 1 if i != end and self.is_op(i, *CLOSING) else i + 1

    def find_messages(self):
        """What is formatted for people: behind a format in a call."""
        spared = set()
        for i, token in enumerate(self.tokens):
            if token.kind == 'name' and self.text(i + 1) == '(':
                behind = False
                for first, last in self.arguments(i + 1):
                    if behind:
                        spared.update(range(first, last + 1))
                    behind |= self.tokens[first].kind == 'string' and '%' in self.text(first)
        return spared

    def is_type(self, i):
        return self.text(i) in TYPES or bool(TYPE.match(self.text(i))) or self.text(i - 1) == 'struct'

    def is_binary(self, i):
        before = self.tokens[i - 1]
        if before.text in (')', ']'):
            return not (before.text == ')' and self.is_type(self.pairs[i - 1] + 1))
        return before.kind in ('name', 'number') and before.text not in KEYWORDS and not self.is_type(i - 1)

    def reach(self, i, step, stops):
        """The last token of the operand of i, to the left or to the right."""
        skipped = CLOSING.values() if step < 0 else CLOSING
        j = i + step
        while 0 <= j < len(self.tokens):
            if self.is_op(j, *skipped) and not self.is_op(j, '{', '}'):
                j = self.pairs[j] + step
                continue
            if self.text(j) in ('return', 'case') or self.tokens[j].kind == 'op' and \
                    (self.text(j) in STOPS or self.text(j) in stops or
                     self.text(j) in CLOSING or self.text(j) in CLOSING.values()):
                break
            j += step
        return j - step

    def statement_end(self, i):
        while self.text(i) != ';':
            i = self.pairs[i] + 1 if self.is_op(i, *CLOSING) else i + 1
        return i

    def begins_statement(self, i):
        before = self.text(i - 1)
        if before == ';':  # but not within for (;;)
            j = i - 1
            while j >= 0 and self.text(j) not in ('{', '}'):
                if self.is_op(j, ')'):
                    j = self.pairs[j]
                elif self.is_op(j, '('):
                    return False
                j -= 1
            return True
        if before == ')':
            return self.text(self.pairs[i - 1] - 1) in ('if', 'for', 'while', 'switch')
        if before == '{':
            return self.text(i - 2) != '='
        return before in ('}', 'else', 'do', ':')

    def is_room(self, i):
        """The size of an array that is declared: that more does not matter is no news."""
        j = i
        while j >= 0 and self.text(j) not in (';', '{', '}'):
            j -= 1
        return self.text(i + 1) == ']' and self.is_type(j + 1)

    # --- what is changed

    def put(self, first, last, text):
        start, end = self.tokens[first].start, self.tokens[last].end
        if self.source[start:end] != text:
            self.found.append((start, end, text, self.function[first]))

    def of(self, first, last):
        return self.source[self.tokens[first].start:self.tokens[last].end]

    def change_condition(self, i):
        first, last = i + 2, self.pairs[i + 1] - 1
        self.put(first, last, '!(%s)' % self.of(first, last))
        self.put(first, last, '0')
        if self.text(i) == 'if':
            self.put(first, last, '1')

    def change_operator(self, i):
        text = self.text(i)
        for other in COMPARED.get(text, ()):
            self.put(i, i, other)
        if text in ('&&', '||'):
            stops = ('&&', '||') if text == '&&' else ('||',)
            self.put(i, i, '||' if text == '&&' else '&&')
            self.put(self.reach(i, -1, stops), i - 1, '1' if text == '&&' else '0')
            self.put(i + 1, self.reach(i, 1, stops), '1' if text == '&&' else '0')
        elif text in COMPUTED and (text not in '+-*&' or self.is_binary(i)):
            for other in COMPUTED[text]:
                self.put(i, i, other)
            if text in '+-' and self.text(i + 1) == '1':
                self.put(i, i + 1, '')
            if text == '|':
                stops = ('|', '&&', '||', '&', '==', '!=')
                self.put(self.reach(i, -1, stops), i, '')
                self.put(i, self.reach(i, 1, stops), '')
        elif text == '!':
            self.put(i, i, '!!')
        elif text == '?':
            first = self.reach(i, -1, ())
            self.put(first, i - 1, '1')
            self.put(first, i - 1, '0')

    def change_number(self, i):
        digits, suffix = re.match(r'(0[xX][0-9a-fA-F]+|\d+)(.*)', self.text(i)).groups()
        value = int(digits, 8 if re.fullmatch('0[0-7]+', digits) else 0)
        if self.text(i - 1) == '{' and self.text(i + 1) == '}':
            return
        for other in {0: (1,), 1: (0, 2)}.get(value, (value + 1, value - 1)):
            if other < value or not self.is_room(i):
                self.put(i, i, str(other) + suffix)

    def change_name(self, i):
        text = self.text(i)
        if text in self.constants:
            self.put(i, i, self.constants[text])
        if re.fullmatch(r'E[A-Z0-9]{3,}', text) and self.text(i - 1) == '-':
            self.put(i, i, 'EIO' if text != 'EIO' else 'EPERM')

    def change_return(self, i):
        last = self.statement_end(i) - 1
        if last == i:
            return
        value, returned = self.of(i + 1, last), self.returns[self.function[i]]
        if '*' in returned:
            if value != 'NULL':
                self.put(i + 1, last, 'NULL')
        elif 'bool' in returned:
            if value not in ('true', 'false'):
                self.put(i + 1, last, '!(%s)' % value)
        elif 'int' in returned and 'unsigned' not in returned or 'ssize_t' in returned:
            other = '-5' if value in ('0', '1') else '0' if re.fullmatch(r'-E\w+', value) \
                else '((%s), 0)' % value
            self.put(i + 1, last, other)
        elif {'unsigned', 'size_t', 'uint64_t', 'uint32_t'} & set(returned):
            self.put(i + 1, last, '(%s) + 1' % value)

    def drop_statement(self, i):
        text = self.text(i)
        if text == 'return':
            self.change_return(i)
        elif text in ('break', 'continue') and self.text(i + 1) == ';':
            self.put(i, i + 1, ';')
        elif text in KEYWORDS or self.is_type(i) or KEPT.match(text):
            return
        elif self.tokens[i].kind == 'name' and (self.tokens[i + 1].kind == 'name' or self.text(i + 1) == ':'):
            return  # a declaration, a label
        else:
            self.put(i, self.statement_end(i), ';')

    def drop_member(self, i):
        j = i + 1
        while not self.is_op(j, ',', '}'):
            j = self.pairs[j] + 1 if self.is_op(j, *CLOSING) else j + 1
        self.put(i, j if self.text(j) == ',' else j - 1, '')

    def mutants(self):
        depth = 0
        for i, token in enumerate(self.tokens):
            depth += (token.text == '{') - (token.text == '}')
            if i in self.spared:
                continue
            if self.function[i] is None:  # tables
                if depth and token.kind == 'name':
                    self.change_name(i)
                elif depth and token.kind == 'number' and token.text != '0':
                    self.put(i, i, '0')
                continue
            if token.text in ('if', 'while') and self.text(i + 1) == '(':
                self.change_condition(i)
            if token.kind == 'op':
                self.change_operator(i)
            elif token.kind == 'name':
                self.change_name(i)
            elif token.kind == 'number':
                self.change_number(i)
            if token.text == '.' and self.text(i - 1) in ('{', ',') and self.tokens[i + 1].kind == 'name':
                self.drop_member(i)
            if self.begins_statement(i) and (token.kind == 'name' or token.text in ('*', '(', '++', '--')):
                self.drop_statement(i)
        return [Mutant(self.source, function, start, end, text)
                for start, end, text, function in dict.fromkeys(self.found)]


def chosen(by_path, count, seed):
    """Of the mutants of all files count, or all if that is 0.

    The choice is by their names, so that an edit changes it where it was made, and nowhere
    else.
    """
    ranks = []
    for path, mutants in by_path.items():
        seen = collections.Counter()
        for mutant in mutants:
            name = mutant.name(path)
            seen[name] += 1
            rank = '%d\t%s\t%d' % (seed, name, seen[name])
            ranks.append((hashlib.sha256(rank.encode()).digest(), path, mutant))
    ranks.sort(key=lambda rank: rank[0])
    if count:
        ranks = ranks[:count]
    return [(path, mutant) for _, path, mutant in ranks]
