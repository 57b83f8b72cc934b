"""The docs of the kernels are what the kernels say of themselves, and every example in them gives what is printed there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from oneprice.app import kernel_pages as pages
from oneprice.app import kernel_samples as samples
from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.registry import KERNELS, find

PAGE = Path(__file__).resolve().parents[2] / "docs" / "kernels.md"
OURS = [kernel for kernel in KERNELS.values() if kernel.module.startswith("oneprice.")]


def test_the_page_is_what_the_kernels_say() -> None:
    made = pages.page()
    assert PAGE.read_text() == made, "docs/kernels.md is not what the kernels say: run `make docs`"


def test_each_kernel_has_one_section() -> None:
    titles = re.findall(r"^### ([a-z0-9_]+)$", PAGE.read_text(), re.M)
    assert sorted(titles) == sorted(kernel.name for kernel in OURS)


def test_links_lead_to_sections() -> None:
    text = PAGE.read_text()
    anchors = {pages.anchor(title) for title in re.findall(r"^#+ (.+)$", text, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_every_example_gives_what_is_printed() -> None:
    typed = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S))
    test = doctest.DocTestParser().get_doctest(typed, {}, "docs/kernels.md", str(PAGE), 0)
    assert len(test.examples) > len(OURS)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    told: list[str] = []
    with np.printoptions():
        failed, tried = doctest.DocTestRunner(optionflags=flags).run(test, out=told.append)
    assert (failed, tried) == (0, len(test.examples)), "".join(told)


def test_an_input_without_a_sample_is_named_with_its_kernel() -> None:
    kernel = msgspec.structs.replace(find("sma"), name="mine", inputs=("xyzzy",))
    with pytest.raises(samples.NoSample, match=r"mine: its input xyzzy has no sample: add it to INPUTS in .*samples"):
        pages.example(kernel)


def test_a_parameter_without_a_sample_is_named_with_its_kernel() -> None:
    kernel = msgspec.structs.replace(find("volume_bars"), name="mine")
    with pytest.raises(
        samples.NoSample, match=r"volume is missing.*add the parameters of the example of mine to EXAMPLES"
    ):
        pages.example(kernel)


def test_an_example_that_shows_nothing_is_refused() -> None:
    kernel = msgspec.structs.replace(find("macd"), name="mine")  # rows enough for none of its defaults
    with pytest.raises(KernelError, match="mine: its example has no value of macd, signal, hist"):
        pages.example(kernel)


def test_every_sample_is_of_an_input_and_every_example_of_a_kernel() -> None:
    assert set(samples.INPUTS) <= {name for kernel in OURS for name in kernel.inputs}
    assert set(samples.EXAMPLES) <= set(KERNELS)
    assert [
        (name, given) for name, own in samples.INPUTS_OF.items() for given in own if given not in find(name).inputs
    ] == []
