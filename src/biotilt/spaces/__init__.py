"""What is designed: kinds of designs, alphabets, the files designs come from and go to, and positions to keep."""

from biotilt.core.space import Record, Space
from biotilt.spaces.alphabet import DNA, PROTEIN, RNA, Alphabet, alphabet
from biotilt.spaces.arrays import Images, Points
from biotilt.spaces.codons import Codons
from biotilt.spaces.fixed import fixed_from_positions, parse_fixed
from biotilt.spaces.io import numbers, read_designs
from biotilt.spaces.kinds import SPACES, as_space, as_text, build_space, stored_space
from biotilt.spaces.letters import Letters, Padded
from biotilt.spaces.tables import read_table
from biotilt.spaces.text import Text
from biotilt.spaces.tokens import Tokens
from biotilt.spaces.writing import check_designs_output, write_designs

__all__ = [
    "DNA",
    "PROTEIN",
    "RNA",
    "SPACES",
    "Alphabet",
    "Codons",
    "Images",
    "Letters",
    "Padded",
    "Points",
    "Record",
    "Space",
    "Text",
    "Tokens",
    "alphabet",
    "as_space",
    "as_text",
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
