"""Design files as they are written: round trips, documented forms, and nothing written by halves."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biotilt.errors import DataError
from biotilt.spaces import DNA, Record, read_designs, write_designs

plain = st.characters(codec="utf-8", exclude_characters="\x00")
names = st.from_regex(r"[A-Za-z0-9|._=\"',;-]{1,8}", fullmatch=True)
keys = st.from_regex(r"[A-Za-z_\"'][A-Za-z0-9_\"',-]{0,6}", fullmatch=True).filter(
    lambda key: key not in ("name", "sequence")
)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def no_wait(monkeypatch):
    """Do not wait for the disk: hundreds of small files are written."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def libraries(values):
    """Lists of records that share their columns, with cells drawn from `values`."""

    def row(columns):
        cells = st.fixed_dictionaries(dict.fromkeys(columns, values))
        return st.builds(Record, names, st.text("ACGT", min_size=1, max_size=9), cells)

    columns = st.lists(keys, max_size=3, unique=True)
    return columns.flatmap(lambda some: st.lists(row(some), min_size=1, max_size=4))


@RELAXED
@given(records=libraries(st.text(plain, max_size=8)))
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_tables_round_trip_with_any_cells(tmp_path, no_wait, suffix, records):
    write_designs(tmp_path / f"a{suffix}", records)
    assert read_designs(tmp_path / f"a{suffix}", DNA) == records


@RELAXED
@given(records=libraries(st.text(plain, max_size=8).filter(lambda text: not set(text) & set("\r\n"))))
@pytest.mark.parametrize("suffix", [".fa", ".fasta.gz"])
def test_fasta_round_trips_with_any_values(tmp_path, no_wait, suffix, records):
    write_designs(tmp_path / f"a{suffix}", records)
    assert read_designs(tmp_path / f"a{suffix}", DNA) == records


@pytest.mark.parametrize("ends", ["\n", "\r", "\r\n"])
def test_tables_keep_line_breaks_in_cells(tmp_path, ends):
    records = [Record("x", "AC", {"why": f"first{ends}second"}), Record("y", "G", {"why": ""})]
    write_designs(tmp_path / "a.tsv", records)
    assert read_designs(tmp_path / "a.tsv", DNA) == records


RECORDS = [Record("x", "ACG" * 40, {"score": "1", "why": "a b"}), Record("y", "T", {"kind": "k"})]


def test_written_files_look_as_documented(tmp_path):
    long = "ACG" * 40
    for suffix, text in {
        ".csv": f"name,sequence,score,why,kind\nx,{long},1,a b,\ny,T,,,k\n",
        ".tsv": f"name\tsequence\tscore\twhy\tkind\nx\t{long}\t1\ta b\t\ny\tT\t\t\tk\n",
        ".fasta": f'>x score=1 why="a b"\n{long}\n>y kind=k\nT\n',
        ".txt": f"{long}\nT\n",
    }.items():
        path = tmp_path / "new" / "folder" / f"a{suffix}"
        write_designs(path, RECORDS)
        assert path.read_bytes() == text.encode()
        write_designs(path.with_name(path.name + ".gz"), RECORDS)
        assert gzip.decompress(path.with_name(path.name + ".gz").read_bytes()) == text.encode()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_designs(path, [Record("x", "AC")])

    def full(self, data):
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(DataError, match=r"cannot write .*a\.txt: No space left on device"):
        write_designs(path, RECORDS)
    assert path.read_text() == "AC\n" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "records", "message"),
    [
        ("a.csv", [], "there are no designs to write"),
        ("a.doc", RECORDS, "unknown kind of file"),
        ("a.csv", [Record("x", "A", {"name": "y"})], "a column of values is called 'name'"),
        ("a.fa", [Record("a b", "A")], "'a b' cannot be a FASTA name"),
        ("a.fa", [Record("", "A")], "'' cannot be a FASTA name"),
        ("a.fa", [Record("x", "A", {"a b": "1"})], "'a b' cannot be a key in a FASTA header"),
        ("a.fa", [Record("x", "A", {"a": "1\n2"})], "'a' of design 'x' has a line break"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(tmp_path, name, records, message):
    with pytest.raises(DataError, match=message):
        write_designs(tmp_path / name, records)
    assert list(tmp_path.iterdir()) == []
