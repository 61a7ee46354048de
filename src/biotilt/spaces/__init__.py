"""What is designed: alphabets, the files designs come from and go to, and positions to keep."""

from biotilt.spaces.alphabet import DNA, PROTEIN, RNA, Alphabet, alphabet
from biotilt.spaces.fixed import fixed_from_positions, parse_fixed
from biotilt.spaces.io import Record, numbers, read_designs
from biotilt.spaces.space import SPACES, Padded, Space, as_space, build_space, stored_space
from biotilt.spaces.tables import read_table
from biotilt.spaces.writing import check_designs_output, write_designs

__all__ = [
    "DNA",
    "PROTEIN",
    "RNA",
    "SPACES",
    "Alphabet",
    "Padded",
    "Record",
    "Space",
    "alphabet",
    "as_space",
    "build_space",
    "check_designs_output",
    "fixed_from_positions",
    "numbers",
    "parse_fixed",
    "read_designs",
    "read_table",
    "stored_space",
    "write_designs",
]
