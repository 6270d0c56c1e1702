"""Sphinx's settings of the book. Formulas become MathML while it is built, so that no script and no font is needed to show them."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

project, author, html_title = "rtalib", "the rtalib authors", "rtalib: robust image classifiers"
extensions = ["myst_nb"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files, html_js_files = ["claims.css", "book.css"], ["explorers.js"]
html_copy_source, html_show_sourcelink = False, False
html_theme_options = {"top_of_page_buttons": []}
exclude_patterns = ["outputs/record/*/*.md"]
nb_execution_mode = "off"  # build.py runs the notebooks
nb_ipywidgets_js: dict = {}  # no script from elsewhere: explorers.py writes HTML
nb_code_prompt_show, nb_code_prompt_hide = "Show code", "Hide code"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 3
# Two headings of one name on a page, links to a heading of a notebook, a first heading that a page of a run lacks.
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "toc.not_included"]


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))


def inline(translator: nodes.NodeVisitor, node: nodes.Element) -> None:
    translator.body.append(convert(" ".join(node.astext().split())))
    raise nodes.SkipNode


def displayed(translator: nodes.NodeVisitor, node: nodes.Element) -> None:
    formula = convert(" ".join(node.astext().split()), display="block")
    translator.body.append(f'<div class="formula" tabindex="0" role="group" aria-label="formula">{formula}</div>')
    raise nodes.SkipNode


html_math_renderer = "mathml"
