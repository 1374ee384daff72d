#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Whether the tests notice when the code is wrong: each mutant is built and tested.

    run.py [OPTION...] BUILD libgmem|tools|FILE.c...

BUILD is a directory of Meson's; it is set up if it is not there. What was found out is kept
in it, so that a run that was ended goes on where it was. Ends with 1 if less is noticed than
the options ask for, or if equivalent.txt is not right.
"""
import argparse
import collections
import glob
import hashlib
import json
import os
import re
import resource
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import mutants  # noqa: E402

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), '../../..'))
EQUIVALENT = os.path.join(os.path.dirname(os.path.realpath(__file__)), 'equivalent.txt')
NOBODY = 65534

# What a test gets, so that one that never ends does.
MEMORY = 4 << 30
SECONDS = 2  # of the processor, for each process
WAIT = 60    # by the clock


def gmem_tests(program):
    """Its fake worlds, and in them all suites but the threads', which takes longest."""
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    worlds = [line for line in said.splitlines() if re.fullmatch(r'fake-\w+', line)]
    with open(os.path.join(TOP, 'libgmem/tests/main.c')) as main:
        suites = re.findall(r'\{"([\w-]+)", suite_\w+, true', main.read())
    suites.remove('threads')
    return [[world] + suites for world in worlds]


# The sources, what has the constants that they use, and the programs that test them with how
# these are called.
SETS = {
    'libgmem': ('libgmem/src/*.c', ('libgmem/src/*.h', 'libgmem/include/*.h'),
                {'libgmem/tests/gmem-tests': gmem_tests}),
    'tools': ('tools/*.c', ('tools/*.h',),
              {'tools/tests/gmemctl-unit': lambda program: [[]]}),
}


def die(text):
    sys.exit('run.py: ' + text)


def read(path):
    with open(os.path.join(TOP, path)) as f:
        return f.read()


def files(patterns):
    return sorted(os.path.relpath(path, TOP) for pattern in patterns
                  for path in glob.glob(os.path.join(TOP, pattern)))


# --- what is known to be equivalent

def read_equivalent():
    """By the mutants' names: the reason."""
    reasons = {}
    for block in re.split(r'\n\s*\n', read(EQUIVALENT)):
        lines = [line for line in block.splitlines() if line and not line.startswith('#')]
        if not lines:
            continue
        path, function = lines[0].split()
        before = [line[2:] for line in lines if line.startswith('- ')]
        after = [line[1:].strip() for line in lines if line.startswith('+')]
        reason = ' '.join(line[1:].strip() for line in lines if line.startswith('='))
        if len(before) != 1 or not after or not reason:
            die('equivalent.txt: a line before, those after, and the reason, in:\n' + block)
        for text in after:
            reasons['\t'.join((path, function, before[0], text))] = reason
    return reasons


def write_survivors(path, names):
    """As equivalent.txt has them, but for the reason."""
    blocks = collections.OrderedDict()
    for name in names:
        source, function, before, after = name.split('\t')
        blocks.setdefault((source, function, before), []).append(after)
    with open(path, 'w') as f:
        for (source, function, before), afters in blocks.items():
            f.write('%s %s\n- %s\n%s= \n\n' % (source, function, before,
                                               ''.join('+ %s\n' % after for after in afters)))


# --- building

class Program:
    """A test program, linked anew with one object of another's."""

    def __init__(self, build, target, calls):
        self.build, self.target = build, target
        self.inputs = set(ninja(build, '-t', 'inputs', target).split('\n'))
        self.link = shlex.split(ninja(build, '-t', 'commands', target).strip().split('\n')[-1])
        self.path = os.path.join(build, target)
        self.calls = calls(self.path)
        if not self.calls:
            die('%s: no way to call it' % target)

    def has(self, obj):
        return obj in self.inputs

    def linked(self, obj, instead, output):
        """Whether it could be linked with the object 'instead' in the place of obj."""
        command = [instead if word == obj else word for word in self.link]
        if instead not in command:  # it is in an archive: what is there before is taken
            command.insert(next(i for i, word in enumerate(command) if word.endswith('.a')), instead)
        command[command.index('-o') + 1] = output
        return run(command, self.build) == 0


def ninja(build, *arguments):
    return subprocess.run(['ninja', '-C', build, '--quiet', *arguments], check=True,
                          stdout=subprocess.PIPE, text=True).stdout


def run(command, directory):
    return subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode


def commands_of(build):
    """By a source: the object that is built of it, and how, for the first target that has it."""
    with open(os.path.join(build, 'compile_commands.json')) as f:
        entries = json.load(f)
    ret = {}
    for entry in entries:
        path = os.path.relpath(os.path.join(entry['directory'], entry['file']), TOP)
        ret.setdefault(path, []).append((entry['output'], shlex.split(entry['command'])))
    return ret


def compile_command(command, source, directory, output):
    """Of a copy of the source, without what it would say, and what depends on where it is."""
    words, i = [], 0
    while i < len(command):
        if command[i] in ('-o', '-MF', '-MQ', '-c'):
            i += 1
        elif command[i] not in ('-MD', '-g') and not re.match(r'-W[^l]', command[i]):
            words.append(command[i])
        i += 1
    return words + ['-w', '-iquote', os.path.join(TOP, directory), '-o', output, '-c', source]


# --- testing

def limits():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    # Of the processor's time, as a busy machine makes no test fail.
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))


def end(process):
    """First in a way in which Check ends the tests that it runs."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            pass


def all_ok(process):
    """Whether it ends with 0. It is not waited for when a test of it has failed (TAP)."""
    deadline, said = time.monotonic() + WAIT, b'\n'
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.2)[0]:
            more = os.read(process.stdout.fileno(), 1 << 16)
            if not more:
                break
            said = said[-16:] + more
            if b'\nnot ok ' in said:
                return False
        elif process.poll() is not None:
            break
    try:
        return process.wait(max(0, deadline - time.monotonic())) == 0
    except subprocess.TimeoutExpired:
        return False


def passes(program, arguments, room):
    """A wrong program may do anything; as root it would do it to the machine."""
    shutil.rmtree(room, ignore_errors=True)
    os.mkdir(room)
    other = {}
    if os.geteuid() == 0:
        os.chown(room, NOBODY, NOBODY)
        other = dict(user=NOBODY, group=NOBODY, extra_groups=[])
    with subprocess.Popen([program] + arguments, cwd=room, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env=dict(os.environ, TMPDIR=room, CK_TAP_LOG_FILE_NAME='-',
                                   CK_DEFAULT_TIMEOUT=str(WAIT // 2)),
                          preexec_fn=limits, start_new_session=True, **other) as process:
        try:
            return all_ok(process)
        finally:
            end(process)


class Tester:
    def __init__(self, build, programs, scratch):
        self.build, self.programs, self.scratch = build, programs, scratch
        self.commands = commands_of(build)
        self.originals = {}
        contents = hashlib.sha256()
        for program in programs:
            with open(program.path, 'rb') as f:
                contents.update(f.read())
            copy = self.at('program')
            shutil.copy(program.path, copy)
            for call in program.calls:
                if not passes(copy, call, self.at('room')):
                    die('without a mutant it fails: %s' % ' '.join([program.target] + call))
        self.version = contents.hexdigest()

    def at(self, name):
        return os.path.join(self.scratch, name)

    def tests(self, path):
        """The object, its command, and the programs that have it; None if none has."""
        for obj, command in self.commands.get(path, ()):
            programs = [program for program in self.programs if program.has(obj)]
            if programs:
                return obj, command, programs
        return None

    def compiled(self, path, command, text):
        """The object file's contents; None if there is none."""
        source, output = self.at(os.path.basename(path)), self.at('object.o')
        with open(source, 'w') as f:
            f.write(text)
        if run(compile_command(command, source, os.path.dirname(path), output), self.build):
            return None
        with open(output, 'rb') as f:
            return f.read()

    def verdict(self, path, text, mutant):
        obj, command, _ = self.tests(path)
        if path not in self.originals:
            self.originals[path] = self.compiled(path, command, text)
        contents = self.compiled(path, command, mutant.applied(text))
        if contents is None:
            return 'unbuilt'
        if contents == self.originals[path]:
            return 'same'
        for target in self.programs:
            objs = [obj for obj, _ in self.commands[path] if target.has(obj)]
            if not objs:
                continue
            if not target.linked(objs[0], self.at('object.o'), self.at('program')):
                return 'unbuilt'
            for call in target.calls:
                if not passes(self.at('program'), call, self.at('room')):
                    return 'noticed'
        return 'survived'


# --- all of them

class Record:
    """The verdicts on disk: those of other sources or tests are forgotten in the end."""

    def __init__(self, path):
        self.path, self.verdicts = path, {}
        if os.path.exists(path):
            with open(path) as f:
                for line in f:
                    if line.endswith('\n'):  # else it was being written
                        key, verdict = line.split()
                        self.verdicts[key] = verdict
        self.used = {}

    def get(self, key, find_out):
        if key not in self.verdicts:
            self.verdicts[key] = find_out()
            with open(self.path, 'a') as f:
                f.write('%s %s\n' % (key, self.verdicts[key]))
        self.used[key] = self.verdicts[key]
        return self.verdicts[key]

    def forget_others(self):
        with open(self.path + '.new', 'w') as f:
            f.writelines('%s %s\n' % item for item in self.used.items())
        os.rename(self.path + '.new', self.path)


def show_progress(done, count, survived):
    text = '%d of %d mutants, %d survived' % (done, count, survived)
    if sys.stderr.isatty():
        print('\r\033[K' + text, end='\n' if done == count else '', file=sys.stderr, flush=True)
    elif done % 100 == 0 or done == count:
        print(text, file=sys.stderr, flush=True)


def print_table(counts):
    columns = ('unbuilt', 'same', 'listed', 'noticed', 'survived')
    print('%-24s' % 'file' + ''.join('%10s' % column for column in columns) + '%10s' % '%')
    for path in sorted(counts) + ['all']:
        row = counts[path] if path != 'all' else sum(counts.values(), collections.Counter())
        print('%-24s' % path + ''.join('%10d' % row[column] for column in columns) +
              '%10.1f' % share(row))


def share(row):
    of = row['noticed'] + row['survived']
    return 100.0 * row['noticed'] / of if of else 100.0


def test_set(name, only, build, options, scratch):
    pattern, headers, programs = SETS[name]
    ninja(build, *programs)
    tester = Tester(build, [Program(build, *program) for program in programs.items()], scratch)
    sources = {path: read(path) for path in files((pattern,))}
    constants = mutants.constants_of(list(sources.values()) + [read(path) for path in files(headers)])
    found = {}
    for path in only or sources:
        if tester.tests(path):
            found[path] = mutants.File(sources[path], constants, name == 'libgmem').mutants()
        else:
            print('%s: no unit test has it' % path)
    wanted = mutants.chosen(found, 0 if only else options.count, options.seed)
    wanted.sort(key=lambda item: (item[0], item[1].line))

    equivalent = read_equivalent()
    existing = {mutant.name(path) for path, all_of_it in found.items() for mutant in all_of_it}
    wrong = ['no such mutant: ' + entry for entry in equivalent
             if entry.split('\t')[0] in found and entry not in existing]
    record = Record(os.path.join(build, 'mutants-' + name))
    counts, survivors = collections.defaultdict(collections.Counter), []
    for done, (path, mutant) in enumerate(wanted, 1):
        key = hashlib.sha256('\t'.join((tester.version, path, *map(str, mutant.edit))).encode())
        verdict = record.get(key.hexdigest(), lambda: tester.verdict(path, sources[path], mutant))
        entry = mutant.name(path)
        if entry in equivalent and verdict == 'noticed':
            wrong.append('it is noticed: ' + entry)
        elif entry in equivalent and verdict == 'survived':
            verdict = 'listed'
        elif verdict == 'survived':
            survivors.append(entry)
        counts[path][verdict] += 1
        show_progress(done, len(wanted), len(survivors))
    if not only:
        record.forget_others()

    print_table(counts)
    left = os.path.join(build, 'survivors-' + name)
    write_survivors(left, survivors)
    if survivors:
        print('those that survived: %s' % os.path.relpath(left, TOP))
    rows = dict(counts)
    if share(sum(counts.values(), collections.Counter())) < options.floor:
        wrong.append('less than %d %% were noticed' % options.floor)
    for path, row in rows.items():
        if share(row) < options.floor_each:
            wrong.append('%s: less than %d %% were noticed' % (path, options.floor_each))
    for text in wrong:
        print('run.py: ' + text)
    return not wrong


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument('--count', type=int, default=0, help='so many of all files (all)')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--floor', type=int, default=0, help='percent of all')
    parser.add_argument('--floor-each', type=int, default=0, help='percent of each file')
    parser.add_argument('build')
    parser.add_argument('what', nargs='+')
    options = parser.parse_args()

    chosen = collections.OrderedDict()
    for what in options.what:
        path = os.path.relpath(os.path.realpath(what), TOP)
        of = [name for name in SETS if what == name or path in files((SETS[name][0],))]
        if not of:
            die('%s: neither a set nor a source' % what)
        chosen.setdefault(of[0], []).extend([] if what == of[0] else [path])

    os.nice(10)
    build = os.path.realpath(options.build)
    if not os.path.exists(os.path.join(build, 'build.ninja')):
        subprocess.run(['meson', 'setup', '--buildtype=plain', '-Doptimization=1', '-Dtests=enabled',
                        build, TOP], check=True, stdout=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    good = True
    with tempfile.TemporaryDirectory(prefix='gmem-mutation-') as scratch:
        os.chmod(scratch, 0o755)
        for name, only in chosen.items():
            good &= test_set(name, only, build, options, scratch)
    sys.exit(0 if good else 1)


if __name__ == '__main__':
    main()
