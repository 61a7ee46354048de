"""The 41 endpoints of ADMET-AI: what each number means, and how well it was predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "depends"]
PERCENTILE = "_drugbank_approved_percentile"  # as the package calls the column beside an endpoint's


@dataclass(frozen=True)
class Endpoint:
    """One output of ADMET-AI.

    `name` is the package's; `what` it says of a molecule; `units` of the number, "probability" where the network is a
    classifier; `better`, which way medicinal chemists mostly want it; `molecules` that were measured; `figure`, of the
    package's own test: the area under the ROC curve of a classifier, else R², which is negative where the mean of all
    molecules would be the better guess.
    """

    name: str
    what: str
    units: str
    better: Better
    molecules: int
    figure: float

    @property
    def is_probability(self) -> bool:
        return self.units == PROBABILITY


PROBABILITY = "probability"
# Source: the file admet.csv of the package admet-ai 2.0.1 (Swanson et al. 2024, Bioinformatics 40:btae416), whose data
# are those of the Therapeutics Data Commons (Huang et al. 2021). Which way is better is our reading. The file calls the
# unit of Caco2_Wang log(10⁻⁶ cm/s); its numbers are log10 of cm/s.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("HIA_Hou", "absorbed in the human intestine", PROBABILITY, "higher", 578, 0.99),
    Endpoint("Bioavailability_Ma", "oral bioavailability of at least 20 %", PROBABILITY, "higher", 640, 0.72),
    Endpoint("Solubility_AqSolDB", "solubility in water", "log10 mol/L", "higher", 9980, 0.82),
    Endpoint("Lipophilicity_AstraZeneca", "octanol-water distribution at pH 7.4", "log10", "depends", 4200, 0.77),
    Endpoint("HydrationFreeEnergy_FreeSolv", "free energy of hydration", "kcal/mol", "depends", 642, 0.89),
    Endpoint("Caco2_Wang", "permeability of Caco-2 cells", "log10 cm/s", "higher", 906, 0.71),
    Endpoint("PAMPA_NCATS", "permeates an artificial membrane", PROBABILITY, "higher", 2034, 0.79),
    Endpoint("Pgp_Broccatelli", "inhibits P-glycoprotein", PROBABILITY, "lower", 1212, 0.95),
    Endpoint("BBB_Martins", "crosses the blood-brain barrier", PROBABILITY, "depends", 1975, 0.90),
    Endpoint("PPBR_AZ", "share that is bound in human plasma", "%", "lower", 1614, 0.59),
    Endpoint("VDss_Lombardo", "volume of distribution", "L/kg", "depends", 1111, -1.21),
    Endpoint("Half_Life_Obach", "half-life", "h", "depends", 665, -2.39),
    Endpoint("Clearance_Hepatocyte_AZ", "clearance by hepatocytes", "µL/min/10⁶ cells", "lower", 1020, 0.26),
    Endpoint("Clearance_Microsome_AZ", "clearance by liver microsomes", "µL/min/mg", "lower", 1102, 0.28),
    Endpoint("CYP1A2_Veith", "inhibits CYP1A2", PROBABILITY, "lower", 12579, 0.94),
    Endpoint("CYP2C19_Veith", "inhibits CYP2C19", PROBABILITY, "lower", 12665, 0.91),
    Endpoint("CYP2C9_Veith", "inhibits CYP2C9", PROBABILITY, "lower", 12092, 0.91),
    Endpoint("CYP2D6_Veith", "inhibits CYP2D6", PROBABILITY, "lower", 13130, 0.89),
    Endpoint("CYP3A4_Veith", "inhibits CYP3A4", PROBABILITY, "lower", 12328, 0.91),
    Endpoint("CYP2C9_Substrate_CarbonMangels", "substrate of CYP2C9", PROBABILITY, "depends", 666, 0.63),
    Endpoint("CYP2D6_Substrate_CarbonMangels", "substrate of CYP2D6", PROBABILITY, "depends", 664, 0.82),
    Endpoint("CYP3A4_Substrate_CarbonMangels", "substrate of CYP3A4", PROBABILITY, "depends", 667, 0.70),
    Endpoint("hERG", "blocks the potassium channel hERG", PROBABILITY, "lower", 648, 0.84),
    Endpoint("ClinTox", "failed in the clinic for toxicity", PROBABILITY, "lower", 1459, 0.93),
    Endpoint("AMES", "mutagenic in the Ames test", PROBABILITY, "lower", 7255, 0.88),
    Endpoint("DILI", "injures the liver", PROBABILITY, "lower", 475, 0.88),
    Endpoint("Carcinogens_Lagunin", "carcinogenic in rodents", PROBABILITY, "lower", 278, 0.77),
    Endpoint("LD50_Zhu", "acute toxicity in rats", "−log10 mol/kg", "lower", 7342, 0.60),
    Endpoint("Skin_Reaction", "sensitises skin", PROBABILITY, "lower", 404, 0.72),
    Endpoint("NR-AR", "activates the androgen receptor", PROBABILITY, "lower", 7258, 0.78),
    Endpoint("NR-AR-LBD", "the same, its ligand binding domain", PROBABILITY, "lower", 6751, 0.88),
    Endpoint("NR-AhR", "activates the aryl hydrocarbon receptor", PROBABILITY, "lower", 6542, 0.90),
    Endpoint("NR-Aromatase", "inhibits aromatase", PROBABILITY, "lower", 5815, 0.91),
    Endpoint("NR-ER", "activates the estrogen receptor", PROBABILITY, "lower", 6186, 0.75),
    Endpoint("NR-ER-LBD", "the same, its ligand binding domain", PROBABILITY, "lower", 6948, 0.83),
    Endpoint("NR-PPAR-gamma", "activates PPARγ", PROBABILITY, "lower", 6443, 0.92),
    Endpoint("SR-ARE", "activates the antioxidant response", PROBABILITY, "lower", 5825, 0.84),
    Endpoint("SR-ATAD5", "damages DNA (ATAD5)", PROBABILITY, "lower", 7065, 0.88),
    Endpoint("SR-HSE", "activates the heat shock response", PROBABILITY, "lower", 6460, 0.84),
    Endpoint("SR-MMP", "lowers the membrane potential of mitochondria", PROBABILITY, "lower", 5804, 0.92),
    Endpoint("SR-p53", "activates p53", PROBABILITY, "lower", 6767, 0.88),
)  # fmt: skip
NAMES: tuple[str, ...] = tuple(endpoint.name for endpoint in ENDPOINTS)


def units_of(name: str) -> str:
    """Return the unit of a column: of an endpoint, or of its percentile.

    >>> units_of("hERG"), units_of("hERG_drugbank_approved_percentile")
    ('probability', 'percentile of approved drugs')
    """
    if name.endswith(PERCENTILE):
        return "percentile of approved drugs"
    return next(endpoint.units for endpoint in ENDPOINTS if endpoint.name == name)
