"""Design files as people have them: nothing in them is lost without a word, and what is odd is named."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biotilt.errors import ConfigError, DataError
from biotilt.spaces import DNA, PROTEIN, Record, numbers, read_designs, read_table, write_designs
from biotilt.spaces.fasta import format_header, parse_header

VALID = "valid letters: A, C, G, T"
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(tmp_path):
    """Write a file of that name with that text and return its path."""

    def write(name, text):
        path = tmp_path / name
        path.write_bytes(text.encode("utf-8"))
        return path

    return write


def fails(path, message, *, alphabet=DNA, **options):
    """Check that reading fails with exactly `path` + `message`."""
    with pytest.raises(DataError) as error:
        read_designs(path, alphabet, **options)
    assert str(error.value) == f"{path}{message}"


def read_quietly(path, alphabet=DNA):
    """Read a file and check that there was nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_designs(path, alphabet)


# Empty designs

SOME = [Record("a", "ACG"), Record("b", "", {"score": "1"}), Record("c", "T"), Record("d", "")]


@pytest.mark.parametrize(
    ("suffix", "how", "text"),
    [
        (".csv", "an empty cell", "name,sequence,score\na,ACG,\nb,,1\nc,T,\nd,,\n"),
        (".tsv", "an empty cell", "name\tsequence\tscore\na\tACG\t\nb\t\t1\nc\tT\t\nd\t\t\n"),
        (".fasta", "a record without letters", ">a\nACG\n>b score=1\n\n>c\nT\n>d\n\n"),
        (".smi", "a name without SMILES", "ACG\ta\n\tb\nT\tc\n\td\n"),
        (".txt", "an empty line", "ACG\n\nT\n\n"),
    ],
)
def test_an_empty_design_is_written_in_the_kind_of_the_file_and_counted(tmp_path, suffix, how, text):
    path = tmp_path / f"a{suffix}"
    with pytest.warns(UserWarning, match=rf"a{suffix}: 2 of 4 designs are empty, written as {how}$"):
        write_designs(path, SOME)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz", ".fa", ".smi"])
def test_empty_designs_are_read_again_and_counted(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with pytest.warns(UserWarning, match="2 of 4 designs are empty"):
        write_designs(path, SOME)
    with pytest.warns(UserWarning, match=r"2 of 4 designs have no letters, the first on line 3|.* line 2"):
        found = read_designs(path, DNA)
    assert [(r.name, r.design) for r in found] == [(r.name, r.design) for r in SOME]
    fails(path, f":{found[1].line}: design 'b' has no sequence", empty="error")


@pytest.mark.filterwarnings("ignore:.* empty")
def test_a_design_with_neither_name_nor_letters_is_no_blank_line(tmp_path):
    write_designs(tmp_path / "a.csv", [Record("", "A"), Record("", "")])
    assert [(r.name, r.design) for r in read_designs(tmp_path / "a.csv", DNA)] == [("1", "A"), ("2", "")]


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "name,seq\nx,\ny,\n"), ("a.fa", "\n>x\n>y\n"), ("a.smi", "\n\tx\n")]
)
def test_a_file_without_a_single_letter_is_refused(file, name, text):
    fails(file(name, text), ":2: no design has a sequence")


def test_blank_lines_of_a_text_file_are_no_designs_and_are_told(file):
    with pytest.warns(UserWarning, match="2 blank lines between designs are left out"):
        assert read_designs(file("a.txt", "\nAC\n\nGG\n\nTT\n\n\n"), DNA) == [
            Record("1", "AC"),
            Record("2", "GG"),
            Record("3", "TT"),
        ]
    assert len(read_quietly(file("b.txt", "\n\nAC\nGG\n\n\n"))) == 2


def test_a_choice_that_is_none_is_refused(file):
    with pytest.raises(ConfigError, match='empty must be "keep" or "error", not \'skip\''):
        read_designs(file("a.txt", "A\n"), DNA, empty="skip")  # type: ignore[arg-type]


# FASTA


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("a some words description=foo", {"description": "some words; foo"}),
        ("b x=1 x=2", {"x": "1; 2"}),
        ("b x=1 y=3 x= x=2", {"x": "1; ; 2", "y": "3"}),
        ('b note="x=1 y=2" z=3', {"note": "x=1 y=2", "z": "3"}),
        ('b note="a b" and more z=3', {"note": "a b and more", "z": "3"}),
        ('b note="a b z=3', {"note": '"a b', "z": "3"}),
        ("b =x y", {"description": "=x y"}),
        ("b url=https://x.org/?a=b c", {"url": "https://x.org/?a=b c"}),
        ("x=1 y=2", {"y": "2"}),
    ],
)
def test_no_word_of_a_header_is_lost(file, header, values):
    record = read_quietly(file("a.fa", f">{header}\nACGT\n"))[0]
    assert (record.name, record.values) == (header.split()[0], values)


def test_a_repeated_key_is_no_number(file):
    path = file("a.fa", ">a x=1\nA\n>b x=1 x=2\nC\n")
    with pytest.raises(DataError, match=r"a\.fa:3: column 'x': \"1; 2\" is no number"):
        numbers(read_designs(path, DNA), "x", path)


@given(st.text(st.sampled_from("ab =\"'\t\x0b;"), max_size=30))
def test_what_is_read_of_a_header_is_written_as_it_was_read(text):
    name, values = parse_header(text)
    if name:
        assert parse_header(format_header(name, values, Path("x"))) == (name, values)


@pytest.mark.parametrize(
    "part", ["ACGT", "a=", 'a="', 'a="" ', 'a="""x ', '"', " ", "= ", " =", "a ", "\x0b", 'a="b ', '"" ', "a=b "]
)
def test_a_header_is_read_in_time_linear_in_its_length(part):
    start = time.process_time()
    parse_header("x " + part * (200_000 // len(part)))
    assert time.process_time() - start < 2  # a quadratic one takes minutes


def test_a_sequence_on_the_line_of_its_header_is_named(file):
    path = file("a.fasta", ">chr1 " + "ACGT" * 10_000 + "\n>b\nAC\n")
    fails(path, ":1: the sequence of 'chr1' stands in its header; it belongs on a new line")


@pytest.mark.parametrize("suffix", [".fas", ".FAA", ".fNa", ".ffn", ".frn", ".fsa", ".mpfa", ".FAS.GZ"])
def test_the_usual_suffixes_of_fasta_are_known_in_any_case(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_designs(path, [Record("a", "ACG")])
    assert read_quietly(path) == [Record("a", "ACG")]


# Tables


@pytest.mark.parametrize("first", ["ACGT", "acgtacgt", "ACGN", "AC-GT", "A", "acgu"])
def test_a_first_sequence_is_no_header_whatever_its_length(file, first):
    message = (
        f': the header {first!r} looks like a sequence; write "sequence" above it, or, if it is the name of a column, '
        "give it as the column"
    )
    fails(file("a.csv", f"{first}\nACGTACG\nAC\n"), message)


def test_a_first_row_of_data_is_named(file):
    fails(
        file("a.csv", "ACGT,1.5\nGG,2\n"),
        ": which column holds the sequences? Give its name as `column`; columns found: ACGT, 1.5; the first line of a "
        "table is its header, and this looks like data",
    )


@pytest.mark.parametrize("column", ["peptide", "Protein", "SMILES", "sequences"])
def test_usual_names_are_headers_also_when_they_are_letters(file, column):
    assert read_quietly(file("a.csv", f"{column}\nMKV\n"), PROTEIN) == [Record("1", "MKV")]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.csv", "name;seq;y\na;AC;1,5\n", "a .csv file whose cells are separated by semicolons; save it with commas, "
         "and with points in numbers"),
        ("a.csv", "sep=;\nname;seq\na;AC\n", "a .csv file whose cells are separated by semicolons; save it with "
         "commas, and with points in numbers"),
        ("a.CSV", "name\tseq\na\tAC\n", "a .csv file whose cells are separated by tabs; name it .tsv"),
        ("a.tsv", "name,seq\na,AC\n", "a .tsv file whose cells are separated by commas; name it .csv"),
        ("a.csv", "name|seq\na|AC\n", "a .csv file whose cells are separated by bars; save it with commas"),
    ],
)  # fmt: skip
def test_a_separator_that_does_not_fit_the_suffix_is_named(file, name, text, what):
    fails(file(name, text), f":1: {what}")


@pytest.mark.parametrize(
    "text",
    [
        "sep=,\r\nname,seq,y\r\na,AC,1\r\n",
        "name,seq,y,,\na,AC,1,,\n",
        "name,seq,y\na,AC,1,,\n,,\n",
        "#name,seq,y\na,AC,1\n",
        '"name","seq","y"\r\n"a","ac","1"\r\n\r\n\r\n',
        " name , seq,y \na, AC ,1\n",
    ],
)
def test_what_spreadsheets_add_changes_nothing(file, text):
    assert read_quietly(file("a.csv", text)) == [Record("a", "AC", {"y": "1"})]


def test_columns_without_a_name_are_kept_or_refused(file):
    assert read_table(file("a.csv", ",x,\n7,1,\n"))[1] == [(2, {"": "7", "x": "1"})]
    with pytest.raises(DataError, match=r"b\.csv:1: 2 columns with values have no name in the header"):
        read_table(file("b.csv", ",x,\n7,1,2\n"))


def test_a_cell_may_hold_a_genome(file):
    assert len(read_quietly(file("a.csv", f"seq\n{'ACGT' * 50_000}\n"))[0].design) == 200_000


@pytest.mark.parametrize(
    ("letter", "what"),
    [
        ("-", "a gap; take sequences out of their alignment"),
        (".", "a gap; take sequences out of their alignment"),
        (" ", "a space; sequences have none"),
        ("*", "a stop; leave it out"),
    ],
)
def test_gaps_stops_and_spaces_are_named(file, letter, what):
    for name in ("a.txt", "a.fa"):
        start = ">x\n" if name == "a.fa" else "\n"
        told = f":2:3: {letter!r} is not a letter of dna ({what}); {VALID}"
        fails(file(name, f"{start}AC{letter}G\n"), told)


# SMILES


def test_smiles_files_have_names_or_none(file):
    text = "SMILES Name\nACG  first one \n  T\nGG\tx\ty\n"
    assert read_quietly(file("a.smi", text)) == [Record("first one", "ACG"), Record("2", "T"), Record("x\ty", "GG")]


def test_a_smiles_file_holds_one_design_a_line(tmp_path):
    for record in (Record("a\nb", "A"), Record("a", "A G")):
        with pytest.raises(DataError, match=r"which a \.smi file cannot hold; write a \.csv"):
            write_designs(tmp_path / "a.smi", [record])
    write_designs(tmp_path / "a.smiles", [Record("two words", "A")])
    assert read_quietly(tmp_path / "a.smiles") == [Record("two words", "A")]


# Anything


@RELAXED
@given(st.binary(max_size=60), st.sampled_from([".fa", ".csv", ".tsv", ".smi", ".txt", ".csv.gz"]))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_are_designs_or_an_error_of_ours(tmp_path, data, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    try:
        assert read_designs(path, DNA)
    except DataError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_signs_that_no_text_has_do_not_stop_a_table(tmp_path):
    write_designs(tmp_path / "a.csv", [Record("a", "AC", {"reason": "a\0b \udc80"})])
    assert read_quietly(tmp_path / "a.csv") == [Record("a", "AC", {"reason": "a\\0b \\udc80"})]
