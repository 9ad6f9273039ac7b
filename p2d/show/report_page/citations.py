"""Whom to cite for what was used."""

from __future__ import annotations

from p2d.show.report_page.html import Html, element, joined
from p2d.show.report_page.material import Material
from p2d.systems.reading import catalogue

SPARSE = (
    (
        "S. L. Brunton, J. L. Proctor, J. N. Kutz: Discovering governing equations from data by sparse identification "
        "of nonlinear dynamical systems. PNAS 113 (2016) 3932–3937",
        "https://doi.org/10.1073/pnas.1517384113",
    ),
    (
        "S. H. Rudy, S. L. Brunton, J. L. Proctor, J. N. Kutz: Data-driven discovery of partial differential "
        "equations. Science Advances 3 (2017) e1602614",
        "https://doi.org/10.1126/sciadv.1602614",
    ),
    (
        "D. A. Messenger, D. M. Bortz: Weak SINDy for partial differential equations. J. Comput. Phys. 443 (2021) "
        "110525",
        "https://doi.org/10.1016/j.jcp.2021.110525",
    ),
)
STATIONARY = (
    (
        "S. Klus et al.: Data-driven approximation of the Koopman generator: model reduction, system identification, "
        "and control. Physica D 406 (2020) 132416",
        "https://doi.org/10.1016/j.physd.2020.132416",
    ),
    (
        "Zhang, Levin: Equilibrium flow: From Snapshots to Dynamics. arXiv 2509.17990 (2025)",
        "https://arxiv.org/abs/2509.17990",
    ),
)
SCORE = (
    (
        "P. Vincent: A connection between score matching and denoising autoencoders. Neural Computation 23 (2011) "
        "1661–1674",
        "https://doi.org/10.1162/NECO_a_00142",
    ),
    (
        "J. Ho, A. Jain, P. Abbeel: Denoising diffusion probabilistic models. NeurIPS 33 (2020)",
        "https://arxiv.org/abs/2006.11239",
    ),
    (
        "T. Karras, M. Aittala, T. Aila, S. Laine: Elucidating the design space of diffusion-based generative models. "
        "NeurIPS 35 (2022)",
        "https://arxiv.org/abs/2206.00364",
    ),
)
TRACE = (
    "M. F. Hutchinson: A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines. "
    "Commun. Stat. Simul. Comput. 19 (1990) 433–450",
    "https://doi.org/10.1080/03610919008812866",
)
NOISE2SCORE = (
    "K. Kim, J. C. Ye: Noise2Score: Tweedie's approach to self-supervised image denoising without clean images. "
    "NeurIPS 34 (2021)",
    "https://arxiv.org/abs/2106.07009",
)
DISTANCE = (
    "G. J. Székely, M. L. Rizzo: Energy statistics: a class of statistics based on distances. J. Stat. Plan. Inference "
    "143 (2013) 1249–1272",
    "https://doi.org/10.1016/j.jspi.2013.03.018",
)
Source = tuple[str, str]


def sources(material: Material) -> list[tuple[str, list[Source]]]:
    """The sources of what was used, by what that is."""
    used: list[tuple[str, list[Source]]] = []
    if material.discovery:
        used.append(("The equation, a sparse sum of terms", list(SPARSE)))
    if material.discovery or material.objective == "stationarity":
        used.append(("Dynamics from an ensemble that stays as it is", list(STATIONARY)))
    if "score" in material.histories:
        used.append(("The score model", list(SCORE)))
    if material.objective and material.objective != "stationarity":
        used.append(("The flow's divergence", [TRACE]))
    if material.dataset.card.origin.get("kind") == "denoised":
        used.append(("Denoising without clean data", [NOISE2SCORE]))
    if material.generated or material.evaluation:
        used.append(("Distances of ensembles", [DISTANCE]))
    own = {system.name for system in material.dataset.card.systems.values()}
    named = [(system.source, "") for system in catalogue().values() if system.name in own and system.source]
    return [*used, *([("The system", named)] if named else [])]


def citations(material: Material) -> Html:
    """As lists, one for each part of the method."""
    return joined(
        joined(element("h3", what), element("ul", *(_item(text, link) for text, link in named), class_="sources"))
        for what, named in sources(material)
    )


def _item(text: str, link: str) -> Html:
    shown = link.removeprefix("https://").removeprefix("doi.org/")
    return element("li", f"{text}. ", element("a", shown, href=link, rel="noreferrer") if link else None)
