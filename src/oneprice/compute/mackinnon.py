"""How unlikely a unit-root statistic is when there is no cointegration: MacKinnon's response surfaces.

The Dickey–Fuller t has no normal distribution, and on the residual of a regression of N series it lies further left the
more series there are; the table of the plain test (N = 1) would call far too many pairs cointegrated. `p_value` is
asymptotic, by the polynomials of the paper of 1994 in the coefficients that its tables print; `critical_values` carry the
size of the sample, by the surfaces of 2010."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.kernels.special import normal_cdf
from oneprice.model.errors import InputError

TRENDS = ("n", "c", "ct")  # no constant, a constant, a constant and a linear trend; compiled code takes the place
MOST_SERIES = 6

# MacKinnon, "Approximate asymptotic distribution functions for unit-root and cointegration tests", Journal of Business &
# Economic Statistics 12 (1994), tables 3 and 4. A row a number of series N = 1…6: the statistic below which p is 0, that
# up to which the first polynomial holds, that above which p is 1; then the coefficients of τ⁰ τ¹ τ² below, and of
# τ⁰ τ¹ τ² τ³ above. The tables print them times 1, 1, 100 and 1, 10, 10, 100.
_PRINTED = np.array([
    [
        (-19.04, -1.04, math.inf, 0.6344, 1.2378, 3.2496, 0.4797, 9.3557, -0.6999, 3.3066),
        (-19.62, -1.53, 1.51, 1.9129, 1.3857, 3.5322, 1.5578, 8.558, -2.083, -3.3549),
        (-21.21, -2.68, 0.86, 2.7648, 1.4502, 3.4186, 2.2268, 6.8093, -3.2362, -5.4448),
        (-23.25, -3.09, 0.88, 3.4336, 1.4835, 3.19, 2.7654, 6.4502, -3.0811, -4.4946),
        (-21.63, -3.07, 1.05, 4.0999, 1.5533, 3.59, 3.2684, 6.8051, -2.6778, -3.4972),
        (-25.74, -3.77, 1.24, 4.5388, 1.5344, 2.9807, 3.7268, 7.167, -2.3648, -2.8288),
    ],
    [
        (-18.83, -1.61, 2.74, 2.1659, 1.4412, 3.8269, 1.7339, 9.3202, -1.2745, -1.0368),
        (-18.86, -2.62, 0.92, 2.92, 1.5012, 3.9796, 2.1945, 6.4695, -2.9198, -4.2377),
        (-23.48, -3.13, 0.55, 3.4699, 1.4856, 3.164, 2.5893, 4.5168, -3.6529, -5.0074),
        (-28.07, -3.47, 0.61, 3.9673, 1.4777, 2.6315, 3.0387, 4.5452, -3.3666, -4.1921),
        (-25.96, -3.78, 0.79, 4.5509, 1.5338, 2.9545, 3.5049, 5.2098, -2.9158, -3.3468),
        (-23.27, -3.93, 1.0, 5.1399, 1.6036, 3.4445, 3.9489, 5.8933, -2.5359, -2.721),
    ],
    [
        (-16.18, -2.89, 0.7, 3.2512, 1.6047, 4.9588, 2.5261, 6.1654, -3.7956, -6.0285),
        (-21.15, -3.19, 0.63, 3.6646, 1.5419, 3.6448, 2.85, 5.272, -3.6622, -5.1695),
        (-25.37, -3.5, 0.71, 4.0983, 1.5173, 2.9898, 3.221, 5.255, -3.2685, -4.1501),
        (-26.63, -3.65, 0.93, 4.5844, 1.5338, 2.8796, 3.652, 5.9758, -2.7483, -3.2081),
        (-26.53, -3.8, 1.19, 5.0722, 1.5634, 2.9472, 4.0712, 6.6428, -2.3464, -2.546),
        (-26.18, -4.36, 1.42, 5.53, 1.5914, 3.0392, 4.4735, 7.1757, -2.0681, -2.1196),
    ],
])  # fmt: skip
_SURFACES = _PRINTED * np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1e-2, 1.0, 1e-1, 1e-1, 1e-2])

# MacKinnon, "Critical values for cointegration tests", Queen's Economics Department working paper 1227 (2010), tables 1 to 3:
# by trend, by N = 1…6, at 1, 5 and 10 %, the coefficients of T⁰ T⁻¹ T⁻² T⁻³. Without a constant only N = 1 is tabulated.
_CRITICAL: dict[str, list[tuple[tuple[float, ...], ...]]] = {
    "n": [((-2.56574, -2.2358, -3.627, 0), (-1.941, -0.2686, -3.365, 31.223), (-1.61682, 0.2656, -2.714, 25.364))],
    "c": [
        ((-3.43035, -6.5393, -16.786, -79.433), (-2.86154, -2.8903, -4.234, -40.04), (-2.56677, -1.5384, -2.809, 0)),
        ((-3.89644, -10.9519, -33.527, 0), (-3.33613, -6.1101, -6.823, 0), (-3.04445, -4.2412, -2.72, 0)),
        ((-4.29374, -14.4354, -33.195, 47.433), (-3.74066, -8.5632, -10.852, 27.982), (-3.45218, -6.2143, -3.718, 0)),
        ((-4.64332, -18.1031, -37.972, 0), (-4.096, -11.2349, -11.175, 0), (-3.8102, -8.3931, -4.137, 0)),
        ((-4.95756, -21.8883, -45.142, 0), (-4.41519, -14.0405, -12.575, 0), (-4.13157, -10.7417, -3.784, 0)),
        (
            (-5.24568, -25.6688, -57.737, 88.639), (-4.70693, -16.9178, -17.492, 60.007),
            (-4.42501, -13.1875, -5.104, 27.877),
        ),
    ],
    "ct": [
        (
            (-3.95877, -9.0531, -28.428, -134.155), (-3.41049, -4.3904, -9.036, -45.374),
            (-3.12705, -2.5856, -3.925, -22.38),
        ),
        ((-4.32762, -15.4387, -35.679, 0), (-3.78057, -9.5106, -12.074, 0), (-3.49631, -7.0815, -7.538, 21.892)),
        (
            (-4.66305, -18.7688, -49.793, 104.244), (-4.1189, -11.8922, -19.031, 77.332),
            (-3.83511, -9.0723, -8.504, 35.403),
        ),
        (
            (-4.9694, -22.4694, -52.599, 51.314), (-4.42871, -14.5876, -18.228, 39.647),
            (-4.14633, -11.25, -9.873, 54.109),
        ),
        (
            (-5.25276, -26.2183, -59.631, 50.646), (-4.71537, -17.3569, -22.66, 91.359),
            (-4.43422, -13.6078, -10.238, 76.781),
        ),
        (
            (-5.51727, -29.976, -75.222, 202.253), (-4.98228, -20.305, -25.224, 132.03),
            (-4.70233, -16.1253, -9.836, 94.272),
        ),
    ],
}  # fmt: skip


@njit(cache=True)
def p_value(statistic, trend, series):
    """The probability of so low a statistic without cointegration; `trend` a place in TRENDS, `series` N = 1…6. NaN stays."""
    if math.isnan(statistic):
        return math.nan
    row = _SURFACES[trend, series - 1]
    if statistic > row[2]:
        return 1.0
    if statistic < row[0]:
        return 0.0
    if statistic <= row[1]:
        z = row[3] + statistic * (row[4] + statistic * row[5])
    else:
        z = row[6] + statistic * (row[7] + statistic * (row[8] + statistic * row[9]))
    return normal_cdf(z)


def critical_values(*, observations: float = math.inf, trend: str = "c", series: int = 1) -> NDArray[np.float64]:
    """The statistic below which 1, 5 and 10 % of samples without cointegration lie; `observations` of the regression.

    NaN where the paper has none (several series without a constant). InputError for a trend or N beyond the tables.

    >>> critical_values(observations=250, series=2).round(3).tolist()
    [-3.941, -3.361, -3.061]
    """
    place_of_trend(trend)
    if not 1 <= series <= MOST_SERIES:
        raise InputError(f"series={series!r}: it must be 1 to {MOST_SERIES}, for which there are tables")
    of_trend = _CRITICAL[trend]
    if series > len(of_trend):
        return np.full(3, np.nan)
    found: NDArray[np.float64] = np.array(of_trend[series - 1]) @ (1.0 / observations) ** np.arange(4)
    return found


def place_of_trend(trend: str) -> int:
    """What compiled code takes for a trend. InputError for another word."""
    if trend not in TRENDS:
        raise InputError(f"trend={trend!r}: it must be n, c or ct: nothing, a constant, a constant and a linear trend")
    return TRENDS.index(trend)
