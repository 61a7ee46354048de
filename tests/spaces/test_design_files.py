"""Design files as they are read: formats, normalisation, and errors that name file, line and column."""

from __future__ import annotations

import gzip
import math
import re
import time
import warnings

import pytest

from biotilt.errors import ConfigError, DataError
from biotilt.spaces import DNA, PROTEIN, RNA, Record, numbers, read_designs, read_table


@pytest.fixture
def file(tmp_path):
    """Write a file of that name with that text (or bytes) and return its path."""

    def write(name, content):
        data = content if isinstance(content, bytes) else content.encode("utf-8")
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def fails(path, message, *, alphabet=DNA, **options):
    """Check that reading fails with exactly `path` + `message`."""
    with pytest.raises(DataError) as error:
        read_designs(path, alphabet, **options)
    assert str(error.value) == f"{path}{message}"


VALID = "valid letters: A, C, G, T"


# Reading


@pytest.mark.parametrize("suffix", [".fasta", ".fa", ".fna", ".faa", ".FA", ".fa.gz", ".fasta.GZ"])
def test_fasta_is_read_by_its_suffixes(file, suffix, tmp_path):
    text = b'>one strong promoter score=2.5 note="a b"\nacg\nTTu\n\n>two\nG\n'
    path = tmp_path / f"lib{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.lower().endswith("gz") else text)
    records = read_designs(path, DNA)
    assert records == [
        Record("one", "ACGTTT", {"description": "strong promoter", "score": "2.5", "note": "a b"}),
        Record("two", "G", {}),
    ]
    assert [record.line for record in records] == [1, 5]


def test_fasta_values_run_to_the_next_key_as_in_uniprot(file):
    path = file("p.faa", ">sp|P1|X Some enzyme OS=Homo sapiens OX=9606 GN=\nMKV\n")
    assert read_designs(path, PROTEIN)[0].values == {
        "description": "Some enzyme",
        "OS": "Homo sapiens",
        "OX": "9606",
        "GN": "",
    }


def test_fasta_records_without_a_name_are_numbered(file):
    records = read_designs(file("a.fa", ">\nAC\n>b\nGG\n>\nTT"), DNA)
    assert [record.name for record in records] == ["1", "b", "3"]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz"])
def test_tables_are_read(file, name):
    delimiter = "," if ".csv" in name else "\t"
    text = 'id,Seq,score,note\nx,acg,1.5,"q ""r"""\n,ttu,,\n'.replace(",", delimiter)
    assert read_designs(file(name, text), DNA) == [
        Record("x", "ACG", {"score": "1.5", "note": 'q "r"'}),
        Record("2", "TTT", {"score": "", "note": ""}),
    ]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_plain_lines_are_read(file, name):
    records = read_designs(file(name, "\n  acgu \nGGT\n\n\n"), RNA)
    assert records == [Record("1", "ACGU"), Record("2", "GGU")]
    assert [record.line for record in records] == [2, 3]


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.fa", ">x\nAC\nGT\n\n>y\nTQ\n"),
        ("a.csv", "name,seq\nx,ACGT\n\n\n\ny,TQ\n"),
        ("a.txt", "\n\n\n\nACGT\nTQ\n"),
    ],
)
def test_line_ends_and_a_byte_order_mark_change_nothing(file, name, text, ends):
    good = read_designs(file("good." + name, "\ufeff" + text.replace("Q", "C").replace("\n", ends)), DNA)
    assert [record.design for record in good] == ["ACGT", "TC"]
    fails(file(name, "\ufeff" + text.replace("\n", ends)), f":6:2: 'Q' is not a letter of dna; {VALID}")


@pytest.mark.parametrize("column", ["sequence", "SEQ", "utr", "Design"])
def test_the_sequence_column_is_found_by_its_usual_names(file, column):
    path = file("a.csv", f"other,{column}\nhello,ACG\n")
    assert read_designs(path, DNA) == [Record("1", "ACG", {"other": "hello"})]


def test_the_first_usual_name_wins_whatever_the_order(file):
    path = file("a.csv", "utr,seq,sequence\nA,C,G\n")
    assert read_designs(path, DNA)[0] == Record("1", "G", {"utr": "A", "seq": "C"})


def test_the_column_can_be_named_or_be_the_only_one(file):
    assert read_designs(file("a.csv", "seq,oligo\nA,C\n"), DNA, column="oligo")[0].design == "C"
    assert read_designs(file("b.csv", "oligo\nGT\n"), DNA)[0].design == "GT"


def test_an_unnamed_index_column_is_kept(file):
    assert read_designs(file("a.csv", ",seq\n0,AC\n"), DNA) == [Record("1", "AC", {"": "0"})]


def test_quoted_cells_over_several_lines_keep_the_line_numbers_right(file):
    path = file("a.csv", 'note,seq\n"two\nlines",AC\nx,AQ\n')
    fails(path, f":4:2: 'Q' is not a letter of dna; {VALID}")
    assert read_table(path)[1] == [(2, {"note": "two\nlines", "seq": "AC"}), (4, {"note": "x", "seq": "AQ"})]


def test_read_table_gives_header_and_numbered_rows(file):
    path = file("m.tsv", "a\t b \n\n1\t2\n\t\n3\t\n")
    assert read_table(path) == (["a", "b"], [(3, {"a": "1", "b": "2"}), (5, {"a": "3", "b": ""})])
    assert read_table(file("only.csv", "a,b\n")) == (["a", "b"], [])


def test_a_library_is_read_quickly(file):
    path = file("big.csv", "name,seq\n" + "".join(f"d{i},{'ACGTU' * 10}\n" for i in range(20_000)))
    start = time.process_time()
    assert len(read_designs(path, DNA)) == 20_000
    assert time.process_time() - start < 2


# Ambiguity codes


def test_ambiguity_codes_are_an_error_unless_skipped(file):
    path = file("a.fa", ">x\nACG\n>y\nAC\nGn\n>z\nTT\n>w\nRYT\n")
    fails(
        path,
        f":5:2: 'n' is an ambiguity code (one of A, C, G, T), but a design needs one letter; {VALID}",
    )
    with pytest.warns(UserWarning, match=r"a\.fa: 2 of 4 records have ambiguity codes, the first on line 3;"):
        records = read_designs(path, DNA, ambiguous="skip")
    assert [(record.name, record.design) for record in records] == [("x", "ACG"), ("z", "TT")]


def test_skipping_hides_no_wrong_letter(file):
    fails(file("a.txt", "ACG\nNN!\n"), f":2:3: '!' is not a letter of dna; {VALID}", ambiguous="skip")


def test_skipping_everything_is_an_error(file):
    path = file("a.csv", "seq\nAN\n")
    fails(
        path,
        ": 1 of 1 records have ambiguity codes, the first on line 2; no record is left",
        ambiguous="skip",
    )


def test_skipping_nothing_warns_of_nothing(file):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_designs(file("a.txt", "ACG\n"), DNA, ambiguous="skip")) == 1


# Errors


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "ACG\nACxT\n", f":2:3: 'x' is not a letter of dna; {VALID}"),
        ("a.fa", ">x\nAC\nG_T\n", f":3:2: '_' is not a letter of dna; {VALID}"),
        (
            "a.csv",
            "name,seq\nx,AC\ny,A T\n",
            f":3:2: ' ' is not a letter of dna (a space; sequences have none); {VALID}",
        ),
        ("a.fa", "ACG\n>x\nAC\n", ":1: a sequence before the first header; a FASTA record starts with '>'"),
        (
            "a.csv",
            "name,seq\nx,AC\n\ny\n",
            ":4: the row has 1 cells, but the header has 2 columns (name, seq)",
        ),
        ("a.tsv", "n\tseq\nx\tAC\t3\n", ":2: the row has 3 cells, but the header has 2 columns (n, seq)"),
        ("a.csv", "a,b,a\n1,2,3\n", ":1: the header has 'a' more than once"),
        (
            "a.csv",
            "a,b\nA,C\n",
            ": which column holds the sequences? Give its name as `column`; columns found: a, b",
        ),
        (
            "a.csv",
            "ACGT\nGGTT\n",
            ": the header 'ACGT' looks like a sequence; write \"sequence\" above it, or, if it is the name "
            "of a column, give it as the column",
        ),
        ("a.csv", "", ": the file is empty; it has no header"),
        ("a.csv", "\n\n", ": the file is empty; it has no header"),
        ("a.csv", "name,seq\n", ": the file is empty; it has no designs"),
        ("a.fa", "\n", ": the file is empty; it has no designs"),
        ("a.txt.gz", "", ": the file is empty; it has no designs"),
        (
            "a.xlsx",
            "seq\nAC\n",
            ": unknown kind of file; known suffixes: .fasta, .fa, .fas, .fna, .faa, .ffn, .frn, .fsa, .mpfa, .csv, "
            ".tsv, .tab, .smi, .smiles, .txt, each also with .gz",
        ),
        (
            "a.txt",
            b"ACG\nA\xe9\n",
            ":2: byte 0xe9 is not UTF-8, it looks like Windows-1252 or Latin-1; save the file as UTF-8",
        ),
    ],
)
def test_a_malformed_file_is_explained(file, name, text, message):
    fails(file(name, text), message)


def test_badly_quoted_rows_are_errors_with_their_line(file):
    with pytest.raises(DataError, match=r"a\.csv:3: malformed row: "):
        read_designs(file("a.csv", 'name,seq\nx,AC\n"y,GG\nz,TT\n'), DNA)


def test_a_column_of_letters_is_no_lost_sequence_when_its_name_is_known(file):
    # "design" is also six amino acids, and so are these designs.
    assert read_designs(file("a.csv", "design\nMKVLIA\n"), PROTEIN) == [Record("1", "MKVLIA")]


def test_a_named_column_is_a_header_whatever_it_looks_like(file):
    assert read_designs(file("a.csv", "TAG\nCGA\n"), DNA, column="TAG") == [Record("1", "CGA")]


def test_a_missing_column_names_the_nearest(file):
    path = file("a.csv", "name,oligo\nx,AC\n")
    fails(path, ": no column 'olgo'; did you mean \"oligo\"?; columns found: name, oligo", column="olgo")


def test_gzip_errors_name_the_file(file):
    whole = gzip.compress(b"ACGT\n" * 50)
    for content in (whole[:-9], whole[:10] + b"\xff" * 8 + whole[18:]):
        path = file("a.txt", content).rename(file("a.txt", content).with_name("b.txt.gz"))
        with pytest.raises(DataError, match=rf"^{re.escape(str(path))}: not a whole gzip file: "):
            read_designs(path, DNA)


def test_a_missing_file_is_named(tmp_path):
    fails(tmp_path / "no.fa", " does not exist")
    (tmp_path / "folder.fa").mkdir()
    fails(tmp_path / "folder.fa", ": cannot be read: it is a folder, not a file")


def test_options_that_cannot_work_are_refused(file):
    path = file("a.fa", ">x\nAC\n")
    with pytest.raises(ConfigError, match="has no columns, so column = 'seq' has no meaning"):
        read_designs(path, DNA, column="seq")
    with pytest.raises(ConfigError, match='ambiguous must be "error" or "skip", not \'drop\''):
        read_designs(path, DNA, ambiguous="drop")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"a table must be \.csv or \.tsv"):
        read_table(path)


# Numbers


def test_numbers_are_read_and_gaps_are_nan(file):
    path = file("a.csv", "seq,y\nA,1.5\nC, -2e3 \nG,\nT,nan\nAA,NaN\nAC,-inf\n")
    found = numbers(read_designs(path, DNA), "y", path)
    assert found[:2] == [1.5, -2000.0] and found[5] == -math.inf
    assert all(math.isnan(value) for value in found[2:5])


def test_a_record_without_the_key_has_no_number(file):
    path = file("a.fa", ">x y=3\nA\n>z\nC\n")
    first, second = numbers(read_designs(path, DNA), "y", path)
    assert first == 3.0 and math.isnan(second)


@pytest.mark.parametrize("cell", ["high", "1.2.3", "1_000", "inf", "1e999", "-1e999", '"1,5"'])
def test_a_cell_that_is_no_number_is_an_error_with_its_line(file, cell):
    path = file("a.csv", f"seq,y\nA,1\n\nC,{cell}\n")
    with pytest.raises(DataError) as error:
        numbers(read_designs(path, DNA), "y", path)
    shown = cell.strip('"')
    point = "; decimals have a point" if "," in cell else ""
    told = f"{path}:4: column 'y': \"{shown}\" is no number{point}; leave it empty where nothing was measured"
    assert str(error.value) == told


def test_a_missing_column_of_numbers_is_an_error(file):
    path = file("a.csv", "seq,activity\nA,1\n")
    with pytest.raises(DataError, match="no column 'actvity' of values; did you mean \"activity\""):
        numbers(read_designs(path, DNA), "actvity", path)
    with pytest.raises(DataError, match="there are no columns but name and sequence"):
        numbers([Record("x", "A")], "y", "b.fa")
