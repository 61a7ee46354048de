"""Constraints on means, E_policy[g(x)] ≥ c or ≤ c, by an augmented Lagrangian that adapts while any objective tunes.

Tuning maximises E[r] − α KL(policy ‖ base) subject to the constraints. The objective sees one reward,

    r(x) + Σ_i s_i λ̃_i g_i(x),     λ̃_i = max(0, λ_i + μ_i v_i),     v_i = s_i (c_i − E_policy[g_i]),

s = +1 for at_least and −1 for at_most; v > 0 is a violation. λ̃ is what the gradient of the augmented Lagrangian
multiplies g by, and λ ← λ̃ ends an outer iteration (Hestenes 1969; Powell 1969; Bertsekas 1982; Nocedal & Wright 2006,
eq. 17.36 and framework 17.3, in its form for inequalities, §17.4). A constraint that the optimum of r alone satisfies
has λ → 0. At the fixed point the policy is p* ∝ p_pre exp((r + Σ s λ g)/α) with E[g] = c wherever λ > 0.

The KL to the base is bounded by its own multiplier, which is α: `Tempered`.
"""

from biotilt.constraints.adapting import Adapting
from biotilt.constraints.constrained import Bounds, Constrained, Constraint, unpriced
from biotilt.constraints.multiplier import LagrangianConfig, Multiplier
from biotilt.constraints.tempered import Tempered

__all__ = ["Adapting", "Bounds", "Constrained", "Constraint", "LagrangianConfig", "Multiplier", "Tempered", "unpriced"]
