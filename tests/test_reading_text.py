"""One way to read text: UTF-8 with or without a byte-order mark; whatever else a file is, is named."""

from __future__ import annotations

import gzip
import os

import pytest

from biotilt import files
from biotilt.errors import CheckpointError, ConfigError, DataError
from biotilt.files import read_json, read_text
from biotilt.keys import read_toml


@pytest.fixture
def file(tmp_path):
    """Write bytes under a name and return the path."""

    def write(content, name="a.txt"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def refused(path, message, **options):
    with pytest.raises(DataError) as error:
        read_text(path, **options)
    assert str(error.value) == f"{path}{message}"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_utf8_is_read_with_and_without_a_byte_order_mark(file, mark):
    assert read_text(file(mark + "5′UTR\n".encode())) == "5′UTR\n"
    assert read_text(file(gzip.compress(mark + b"x\n"), "a.GZ")) == "x\n"
    assert read_json(file(mark + b"[1]")) == [1]
    assert read_toml(file(mark + b"alpha = 1\r\n", "a.toml")) == ({"alpha": 1}, "alpha = 1\n")


def test_line_ends_become_one_kind_unless_they_are_wanted(file):
    path = file(b"a\r\nb\rc\n")
    assert read_text(path) == "a\nb\nc\n"
    assert read_text(path, line_ends=True) == "a\r\nb\rc\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named(file, encoding):
    name = encoding[:6].upper()
    with pytest.raises(DataError, match=rf"a\.txt:1: .*\b{name}\b.*; save it as UTF-8$"):
        read_text(file("ACGT\n".encode(encoding)))


def test_a_mark_of_utf16_big_endian_is_known(file):
    path = file(b"\xfe\xff" + "A".encode("utf-16-be"))
    refused(path, ":1: the file is in UTF-16, not in UTF-8; save it as UTF-8")


@pytest.mark.parametrize(
    ("byte", "likely"), [(b"\xe9", "Windows-1252 or Latin-1"), (b"\x8e", "Windows-1252 or Mac Roman")]
)
def test_one_byte_encodings_are_named_with_the_line(file, byte, likely):
    told = f"is not UTF-8, it looks like {likely}; save the file as UTF-8"
    refused(file(b"one\n\xc3\xa9t" + byte + b"\n"), f":2: byte 0x{byte.hex()} {told}")
    refused(file(b"\xef\xbb\xbf\n\n" + byte), f":3: byte 0x{byte.hex()} {told}")


def test_remarks_in_any_encoding_do_not_hide_coordinates(file):
    path = file(b"REMARK 2.0 \xc5\nATOM 1\n")
    assert read_text(path, any_bytes=True) == "REMARK 2.0 \N{REPLACEMENT CHARACTER}\nATOM 1\n"
    refused(
        file("ATOM\n".encode("utf-16")), ":1: the file is in UTF-16, not in UTF-8; save it as UTF-8", any_bytes=True
    )


def test_binary_files_are_no_text(file):
    refused(file(b"ab\nc\0d"), ":2: a NUL byte, which no text has: it is binary, or damaged")


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04", "a zip archive (an Excel workbook is one); save it as text, a table as CSV in UTF-8"),
        (b"\xd0\xcf\x11\xe0", "an old Excel or Word file; save it as text, a table as CSV in UTF-8"),
        (b"\xfd7zXZ\0", "compressed with xz; unpack it, or compress it with gzip"),
        (b"BZh9", "compressed with bzip2; unpack it, or compress it with gzip"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it, or compress it with gzip"),
    ],
)
def test_other_kinds_of_file_are_named(file, start, what):
    refused(file(start + b"\0rest", "a.csv"), f": no text file: it is {what}")


def test_compression_and_suffix_must_agree(file):
    refused(file(gzip.compress(b"x")), ": compressed with gzip, but its name does not end in .gz; rename it")
    refused(file(b"x", "a.gz"), ": not a gzip file, though its name ends in .gz; rename it or compress it")
    assert read_text(file(b"", "a.gz")) == ""
    with pytest.raises(DataError, match=r"a\.gz: not a whole gzip file: "):
        read_text(file(gzip.compress(b"x" * 100)[:-3], "a.gz"))


def test_several_parts_of_gzip_are_one_text(file):
    assert read_text(file(gzip.compress(b"a\n") + gzip.compress(b"b\n"), "a.gz")) == "a\nb\n"


def test_no_more_is_read_than_allowed(file, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_TEXT", 1 << 20)
    assert len(read_text(file(b"x" * (1 << 20)))) == 1 << 20
    refused(file(b"x" * ((1 << 20) + 1)), ": more than 0.000976562 GiB, the most that is read; split it")
    bomb = file(gzip.compress(bytes(50 << 20)), "bomb.gz")
    assert bomb.stat().st_size < 1 << 20
    refused(bomb, ": more than 0.000976562 GiB once unpacked, the most that is read; split it")


def test_what_is_no_file_is_named(tmp_path, file):
    refused(tmp_path / "none.txt", " does not exist")
    refused(tmp_path / "none.txt", " does not exist; make it", missing="; make it")
    refused(tmp_path, ": cannot be read: it is a folder, not a file")
    refused("/dev/zero", ": cannot be read: it is a device or a pipe, not a file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", ": cannot be read: it is a device or a pipe, not a file")
    refused("x" * 1000, ": cannot be read: File name too long")


@pytest.mark.parametrize(("name", "shown"), [("a\nb", "a\\nb"), ("a\0b", "a\\x00b"), ("a\x1b[2J", "a\\x1b[2J")])
def test_odd_names_stay_on_one_line(name, shown):
    with pytest.raises(DataError) as error:
        read_text(name)
    assert str(error.value) == f"{shown} does not exist"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(file):
    path = file(b"x")
    path.chmod(0)
    refused(path, ": cannot be read: Permission denied")


def test_the_error_is_of_the_kind_that_is_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; `biotilt init utr"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["{", "1" * 5000, "[" * 100_000, "{'a': 1}", ""])
def test_json_that_cannot_be_read_is_an_error_of_ours(file, text):
    with pytest.raises(CheckpointError, match=r"a\.txt is not valid JSON: "):
        read_json(file(text.encode()))
