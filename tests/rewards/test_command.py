"""Programs as rewards: real child processes, small scripts, and designs that try to break the quoting."""

from __future__ import annotations

import math
import stat
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import pytest
import torch

from biotilt.errors import BiotiltError, ConfigError
from biotilt.oracle import Oracle, Store
from biotilt.rewards.generic.command import Command, CommandFailed
from biotilt.testing.spaces import Written

NASTY = [
    "$(touch owned)", "`touch owned`", "; touch owned", "--help", "-", "a,b", 'say "hi"', "it's", "a b  c", "\\n",
    "#x", "é∆", '","', "=1+1", "", " lead", "| cat", "&& false", "%s{designs}{scores}", "'\"'",
]  # fmt: skip

ECHO = """
import csv, sys
with open(sys.argv[1], newline="", encoding="utf-8") as given, open(sys.argv[2], "w", newline="") as asked:
    rows = list(csv.DictReader(given))
    out = csv.writer(asked)
    out.writerow(["note", "score", "id"])
    for row in reversed(rows):
        out.writerow([row["design"], sum(map(ord, row["design"])), row["id"]])
"""


def script(folder: Path, text: str, name: str = "score.py") -> str:
    (folder / name).write_text(text)
    return name


def run(folder: Path, text: str, *words: str, **options) -> Command:
    return Command([sys.executable, script(folder, text), *words], folder=str(folder), **options)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def left_over(folder: Path) -> list[Path]:
    return list((folder / "temporary").iterdir())


COLUMNS = """
import csv, sys
print("b", "id", "note", "a", sep=",")
for row in csv.DictReader(open(sys.argv[1], newline="")):
    a = "" if row["design"] == "C" else row["design"].count("A")
    print(len(row["design"]), row["id"], "text", a, sep=",")
"""


def test_all_columns_of_a_file_from_one_call(tmp_path):
    """An empty cell is not scored in its column only; a column of texts is none, unless it was declared."""
    source = run(tmp_path, COLUMNS, "{designs}", stdout=True).source()
    rows = source(["AA", "C"])
    assert (
        rows[0] == {"a": 2.0, "b": 2.0} and rows[1]["b"] == 1.0 and rows[1]["a"].reason == "the program gave no score"
    )
    declared = run(tmp_path, COLUMNS, "{designs}", stdout=True, columns=["note", "a"])
    assert declared.source()(["AA"])[0]["note"].reason == 'the program gave "text", which is no number'
    assert declared.version == source.version and declared.source().columns == ("note", "a")
    with pytest.raises(CommandFailed, match='without a column "c"'):
        run(tmp_path, COLUMNS, "{designs}", stdout=True, columns=["c"]).source()(["AA"])
    for options in ({"scores_format": "txt"}, {"column": "a"}):
        with pytest.raises(ConfigError, match='several columns need scores_format = "csv"'):
            run(tmp_path, COLUMNS, "{designs}", stdout=True, **options).source()


def test_designs_cannot_break_the_quoting(tmp_path):
    """Every text arrives letter by letter, and nothing in it is run; scores come back in another order."""
    scores = run(tmp_path, ECHO, "{designs}", "{scores}")(NASTY)
    assert scores == [float(sum(map(ord, design))) for design in NASTY]
    assert not list(tmp_path.rglob("owned"))
    assert left_over(tmp_path) == []


def test_words_of_the_command_reach_the_program_as_they_are(tmp_path):
    text = "import sys; print('id,score'); print('0,%d' % (sys.argv[2:] == ['a b', '$HOME', ';', 'x=1']))"
    name = script(tmp_path, text)
    words = [sys.executable, name, "{designs}", "a b", "$HOME", ";", "x=1"]
    assert Command(words, stdout=True, folder=str(tmp_path))(["A"]) == [1.0]
    line = f"{sys.executable} {name} {{designs}} 'a b' '$HOME' ';' x=1"
    assert Command(line, stdout=True, folder=str(tmp_path))(["A"]) == [1.0]


@pytest.mark.parametrize(
    ("form", "expected"),
    [("csv", "id,design\n0,AC\n1,G\n"), ("fasta", ">0\nAC\n>1\nG\n"), ("txt", "AC\nG\n"), ("smi", "AC\t0\nG\t1\n")],
)
def test_the_file_of_designs(tmp_path, form, expected):
    copy = "import sys; open('seen', 'w').write(open(sys.argv[1]).read()); print(1); print(2)"
    command = run(tmp_path, copy, "{designs}", designs_format=form, scores_format="txt", stdout=True)
    assert command(["AC", "G"]) == [1.0, 2.0]
    assert (tmp_path / "seen").read_text() == expected


@pytest.mark.parametrize(
    ("form", "design"), [("fasta", ">AC"), ("smi", "C C"), ("smi", ""), ("csv", "A\nC"), ("txt", "A\r")]
)
def test_a_design_that_a_format_cannot_hold_is_no_other_design(tmp_path, form, design):
    command = run(tmp_path, "raise SystemExit('never run')", "{designs}", designs_format=form, stdout=True)
    with pytest.raises(CommandFailed, match="cannot stand in a"):
        command(["AC", design])


def test_empty_and_unreadable_scores_are_not_scored(tmp_path):
    cells = {3: "-inf", 0: " 1.5 ", 1: "\u0661", 2: "", 4: "nan", 5: "oops", 6: "1_0", 7: "inf"}
    answer = f"print('id , score ,rest'); [print(i, x, 'x', sep=',') for i, x in {cells!r}.items()]"
    scores = run(tmp_path, answer, "{designs}", stdout=True, environment={"PYTHONIOENCODING": "utf-8"})(
        list("ABCDEFGH")
    )
    assert (scores[0], scores[3]) == (1.5, -math.inf)
    reasons = [getattr(score, "reason", None) for score in scores]
    assert reasons == [
        None, 'the program gave "\u0661", which is no number', "the program gave no score", None,
        "the program gave nan",
        *(f'the program gave "{text}", which is no number' for text in ("oops", "1_0", "inf")),
    ]  # fmt: skip


# What a program writes for the designs A, B and C, and what is said of it.
WRONG = {
    "counted from one": ("id,score\n1,.1\n2,.2\n3,.3", 'must give each id from 0 to 2 once; unknown "3", missing "0"$'),
    "one too many": ("id,score\n0,.1\n1,.2\n2,.3\n999,5", 'once; unknown "999"$'),
    "one too few": ("id,score\n0,.1\n2,.3", 'once; missing "1"$'),
    "one twice": ("id,score\n0,1\n0.0,2\n1,1\n2,1", 'once; repeated "0"$'),
    "names": ("id,score\nA,1\nB,1\nC,1", 'once; unknown "A", "B", "C", missing "0", "1", "2"$'),
    "a quote before it": ("id,score\n'0,1\n'1,1\n'2,1", 'once; unknown "\'0"'),
    "a sign of another script": ("id,score\n\u0660,1\n1,1\n2,1", 'once; unknown "\u0660", missing "0"$'),
    "below zero": ("id,score\n-1,1\n0,1\n1,1", 'once; unknown "-1", missing "2"$'),
    "halves": ("id,score\n0.5,1\n0,1\n1,1\n2,1", 'once; unknown "0.5"$'),
    "no id": ("id,score\n,1\n0,1\n1,1\n2,1", 'once; unknown ""$'),
    "an extra cell": (
        "id,score\n0,1\n1,0,5\n2,1",
        r"cannot be read: \{scores\}:3: the row has 3 cells, but the header has 2",
    ),
    "a cell too few": ("id,score\n0,1\n1\n2,1", r"cannot be read: \{scores\}:3: the row has 1 cells"),
    "two columns of a name": (
        "id,score,score\n0,1,2",
        r"cannot be read: \{scores\}:1: the header has 'score' more than once",
    ),
    "nothing": ("", r"cannot be read: \{scores\}: the file is empty"),
    "another column": ("id,value\n0,1", r"without a column \"score\"; there is \['id', 'value'\]"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_scores_of_other_designs_than_were_asked_fail_the_batch(tmp_path, kind):
    text, message = WRONG[kind]
    answer = f"import sys; open(sys.argv[2], 'w', encoding='utf-8').write({text!r})"
    with pytest.raises(CommandFailed, match=message) as caught:
        run(tmp_path, answer, "{designs}", "{scores}")(["A", "B", "C"])
    assert "\n" not in str(caught.value)


def test_many_wrong_ids_are_not_all_named(tmp_path):
    answer = "print('id,score'); [print(i, 0, sep=',') for i in range(100, 1100)]"
    with pytest.raises(CommandFailed, match=r'unknown "100", "101", "102", "103", "104" and 995 more, missing "0"$'):
        run(tmp_path, answer, "{designs}", stdout=True)(["A"])


@pytest.mark.parametrize("form", ["{:.1f}", "{:04d}", "+{}", " {} ", "{}e0", '"{}"', "{}.000"])
def test_numbers_written_otherwise_are_the_same_ids(tmp_path, form):
    answer = f"print('id,score'); [print({form!r}.format(i), i, sep=',') for i in (2, 0, 1)]"
    assert run(tmp_path, answer, "{designs}", stdout=True)(["A", "B", "C"]) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"id,score\r\n0,2\r\n", None),
        (b"\xef\xbb\xbfid,score\n0,2\n", None),
        ("id,score\n0,2\n".encode("utf-16"), r"its output:1: the file is in UTF-16"),
        (b"id,score,note\n0,2,\xe9\n", r"its output:2: byte 0xe9 is not UTF-8"),
    ],
)
def test_the_encoding_of_scores(tmp_path, written, message):
    command = run(tmp_path, f"import sys; sys.stdout.buffer.write({written!r})", "{designs}", stdout=True)
    if message is None:
        assert command(["A"]) == [2.0]
    else:
        with pytest.raises(CommandFailed, match=message):
            command(["A"])


@pytest.mark.parametrize(
    ("answer", "options", "message"),
    [
        ("print(1); print(2)", {"scores_format": "txt"}, "gave 2 lines of scores for 1 designs"),
        ("pass", {"scores_format": "txt"}, "gave 0 lines"),
    ],
)
def test_lines_that_cannot_be_assigned_fail_the_batch(tmp_path, answer, options, message):
    with pytest.raises(CommandFailed, match=message):
        run(tmp_path, answer, "{designs}", stdout=True, **options)(["A"])
    with pytest.raises(CommandFailed, match=r"wrote no file \{scores\}"):
        run(tmp_path, answer, "{designs}", "{scores}")(["A"])


def test_another_column_and_a_file_of_numbers(tmp_path):
    answer = "print('affinity,id\\n-7.5,0')"
    assert run(tmp_path, answer, "{designs}", stdout=True, column="affinity")(["A"]) == [-7.5]
    answer = "import sys; open(sys.argv[2] + '/scores.txt', 'w').write('2.5\\n\\n-1\\n')"
    scores = run(tmp_path, answer, "{designs}", "{folder}", scores_format="txt")(list("ABC"))
    assert (scores[0], scores[2]) == (2.5, -1.0) and math.isnan(scores[1])
    assert math.isnan(run(tmp_path, "print('1\\n')", "{designs}", stdout=True, scores_format="txt")(["A", "C"])[1])


def test_a_failed_program_says_its_last_lines(tmp_path):
    noisy = "import sys\nfor i in range(50): print('line', i, file=sys.stderr)\nsys.exit(3)"
    with pytest.raises(CommandFailed, match=r"exit code 3: line 45\nline 46\nline 47\nline 48\nline 49$"):
        run(tmp_path, noisy, "{designs}", stdout=True)(["A"])
    assert not issubclass(CommandFailed, BiotiltError)  # what biotilt itself refuses would not be asked one by one
    assert left_over(tmp_path) == []


def test_the_oracle_splits_a_batch_whose_program_fails(tmp_path):
    picky = (
        "import csv, sys\n"
        "rows = list(csv.DictReader(open(sys.argv[1])))\n"
        "if any(row['design'] == 'T' for row in rows): sys.exit('cannot do T')\n"
        "print('id,score')\n"
        "for row in rows: print(row['id'], ord(row['design']), sep=',')\n"
    )
    reward = run(tmp_path, picky, "{designs}", stdout=True)
    letters = list("ACGT")
    oracle = Oracle(
        reward, store=Store(None), max_calls=None, run_id="r", space=Written(lambda x: [letters[i] for i in x.tolist()])
    )
    scores = oracle(torch.tensor([0, 1, 2, 3]))
    assert scores[:3].tolist() == [65.0, 67.0, 71.0] and scores[3].isnan()
    ((reason, count),) = oracle.ledger.failures()
    assert count == 1 and reason.startswith("CommandFailed: ") and reason.endswith("exit code 1: cannot do T")


def test_a_file_that_is_no_program_is_named(tmp_path):
    path = tmp_path / "own.sh"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    with pytest.raises(CommandFailed, match=r"exit code 127: cannot start .*own.sh: No such file"):
        Command("./own.sh {designs}", stdout=True, folder=str(tmp_path))(["A"])
    with pytest.raises(CommandFailed, match="exit code 137"):
        run(tmp_path, "import os; os.kill(os.getpid(), 9)", "{designs}", stdout=True)(["A"])


def test_environment_and_working_directory(tmp_path):
    text = "import os; print(os.environ['LEVEL'] == 'high' and 'PATH' in os.environ and os.path.exists('score.py'))"
    text = text.replace("print(", "print(int(") + ")"
    command = run(tmp_path, text, "{designs}", stdout=True, scores_format="txt", environment={"LEVEL": "high"})
    assert command(["A"]) == [1.0]


def test_a_program_of_ones_own_beside_the_experiment(tmp_path):
    path = tmp_path / "own.sh"
    path.write_text("#!/bin/sh\necho 5\n")
    options = {"stdout": True, "scores_format": "txt", "folder": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"no program \"./own.sh\"; make ./own.sh executable"):
        Command("./own.sh {designs}", **options)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    assert Command("./own.sh {designs}", **options)(["A"]) == [5.0]


def test_no_designs_start_no_program(tmp_path):
    assert run(tmp_path, "raise SystemExit(1)", "{designs}", stdout=True)([]) == []


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("no-such-program-xyz {designs}", {"stdout": True}, 'no program "no-such-program-xyz"; install it'),
        ("", {}, "command is empty"),
        ("python3 score.py", {"stdout": True}, r"where the file of designs goes: \{designs\}"),
        ("python3 score.py {designs}", {}, r"where the file of scores goes, \{scores\}; or set stdout = true"),
        ("python3 {designs}", {"stdout": True, "timeout": 0}, "timeout must be > 0"),
        (
            "python3 {designs}",
            {"stdout": True, "designs_format": "fsta"},
            'unknown choice "fsta"; did you mean "fasta"',
        ),
        ("python3 {designs}", {"stdout": True, "folder": "/nowhere/at/all"}, "does not exist"),
    ],
)
def test_what_cannot_work_is_refused_when_built(command, options, message):
    with pytest.raises(ConfigError, match=message):
        Command(command, **options)


def test_the_version_follows_options_and_files(tmp_path):
    name = script(tmp_path, "print(1)")
    base = {"stdout": True, "folder": str(tmp_path)}
    words = [sys.executable, name, "{designs}"]

    def version(**options) -> str:
        return Command(options.pop("command", words), **base, **options).version

    first = version()
    assert version() == first
    assert version(timeout=3.0) == version(name="docking") == version(units="kcal/mol") == first
    other = [
        version(column="b"), version(revision="2"), version(environment={"A": "1"}), version(scores_format="txt"),
        version(designs_format="smi"), version(command=[*words, "--fast"]),
    ]  # fmt: skip
    script(tmp_path, "print(2)")
    assert len({first, version(), *other}) == 8
    script(tmp_path, "print(1)")
    assert version() == first


def test_a_changed_program_is_another_version(tmp_path):
    versions = []
    for number in (1, 2, 1):
        path = tmp_path / "own.sh"
        path.write_text(f"#!/bin/sh\necho {number}\n")
        path.chmod(0o755)
        versions.append(Command(["./own.sh", "{designs}"], stdout=True, folder=str(tmp_path)).version)
    assert versions[0] == versions[2] != versions[1]


def test_it_can_be_sent_to_a_worker(tmp_path):
    command = run(tmp_path, ECHO, "{designs}", "{scores}")
    again = cloudpickle.loads(cloudpickle.dumps(command))
    assert again(["AB"]) == [131.0] and again.version == command.version


def test_calls_at_once_keep_apart(tmp_path):
    command = run(tmp_path, ECHO, "{designs}", "{scores}")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(command, [[letter * n for n in range(3)] for letter in "ACGT"]))
    assert found == [[ord(letter) * float(n) for n in range(3)] for letter in "ACGT"]
    assert left_over(tmp_path) == []
