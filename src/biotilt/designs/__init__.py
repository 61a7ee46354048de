"""What is designed: alphabets, the files designs come from and go to, and positions to keep."""

from biotilt.designs.alphabet import DNA, PROTEIN, RNA, Alphabet, alphabet
from biotilt.designs.fixed import fixed_from_positions, parse_fixed
from biotilt.designs.io import Record, numbers, read_designs, write_designs
from biotilt.designs.tables import read_table

__all__ = [
    "DNA",
    "PROTEIN",
    "RNA",
    "Alphabet",
    "Record",
    "alphabet",
    "fixed_from_positions",
    "numbers",
    "parse_fixed",
    "read_designs",
    "read_table",
    "write_designs",
]
