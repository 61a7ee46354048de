"""What is designed: alphabets, the files designs come from and go to, and positions to keep."""

from biotilt.designs.alphabet import DNA, PROTEIN, RNA, Alphabet, alphabet
from biotilt.designs.codec import CODECS, Codec, Padded, as_codec, build_codec, stored_codec
from biotilt.designs.fixed import fixed_from_positions, parse_fixed
from biotilt.designs.io import Record, numbers, read_designs
from biotilt.designs.tables import read_table
from biotilt.designs.writing import check_designs_output, write_designs

__all__ = [
    "CODECS",
    "DNA",
    "PROTEIN",
    "RNA",
    "Alphabet",
    "Codec",
    "Padded",
    "Record",
    "alphabet",
    "as_codec",
    "build_codec",
    "check_designs_output",
    "fixed_from_positions",
    "numbers",
    "parse_fixed",
    "read_designs",
    "read_table",
    "stored_codec",
    "write_designs",
]
