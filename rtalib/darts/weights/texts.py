"""The fields of a genotype from its text: our own line, JSON, or what the original code prints in a search's log. Nothing is evaluated."""

import ast
import re

from rtalib.data.bounds import parse_json

LONGEST = 2**14  # letters of a genotype's text; the published ones have 200
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")


def quoted(text: str) -> str:
    """The text, or its beginning, for an error."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def fields_of(text: str) -> dict[str, object]:
    """The four fields of a text, see Genotype.parse. ValueError for another form."""
    text = text.strip().removeprefix("\ufeff")
    if text.startswith("{"):
        return fields_of_json(text)
    if "Genotype(" in text:
        return _printed(text)
    match = re.fullmatch(r"\s*normal:(.*)->([\d\s]+);\s*reduce:(.*)->([\d\s]+)", text) if len(text) < LONGEST else None
    if match is None:
        forms = "'normal: op(source) op(source), ... -> 2 3 4 5; reduce: ...', or 'Genotype(normal=[...], ...)'"
        raise ValueError(f"genotype: expected {forms}, got {quoted(text)}")
    normal, normal_concat, reduce, reduce_concat = match.groups()
    return dict(zip(FIELDS, (_edges(normal), _nodes(normal_concat), _edges(reduce), _nodes(reduce_concat)), strict=True))


def fields_of_json(text: str) -> dict[str, object]:
    """ValueError if the text is no JSON object with exactly the four fields."""
    fields = parse_json(text, "genotype")
    if not isinstance(fields, dict) or set(fields) != set(FIELDS):
        raise ValueError(f"genotype: expected a JSON object with the fields {', '.join(FIELDS)}, got {quoted(text)}")
    return fields


def _printed(text: str) -> dict[str, object]:
    """The fields of the last 'Genotype(...)' in a text, as Python prints the named tuple of the original code."""
    try:
        call = _call(text[text.rindex("Genotype(") :])
        positional = dict(zip(FIELDS, map(_plain, call.args), strict=False))
        fields = positional | {keyword.arg: _plain(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"genotype: cannot read {quoted(text[text.rindex('Genotype(') :])} ({error})") from error
    if set(fields) != set(FIELDS):
        raise ValueError(f"genotype: expected the fields {', '.join(FIELDS)}, got {', '.join(map(str, fields))}")
    return fields


def _call(text: str) -> ast.Call:
    """The call at the beginning of a text; more text may follow."""
    depth = 0
    for position, letter in enumerate(text[:LONGEST]):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and not depth:
            return ast.parse(text[: position + 1], mode="eval").body
    raise ValueError("its parentheses do not close")


def _plain(node: ast.expr) -> object:
    """A text, a number, a list or a tuple of such, range(...) or np.int64(...), read from the syntax tree."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return tuple(_plain(item) for item in node.elts)
    if isinstance(node, ast.Call):
        name, numbers = ast.unparse(node.func), [_plain(item) for item in node.args]
        if all(isinstance(number, int) and abs(number) < LONGEST for number in numbers) and numbers:
            if name == "range" and len(numbers) <= 3:
                return tuple(range(*numbers))
            if name.rpartition(".")[2].startswith("int") and len(numbers) == 1:
                return numbers[0]
    raise ValueError(f"expected texts, numbers, lists and ranges, found {quoted(ast.unparse(node))}")


def _edges(text: str) -> tuple[tuple[str, int], ...]:
    words = text.replace(",", " ").split()
    matches = [re.fullmatch(r"(\w+)\((\d+)\)", word) for word in words]
    if not all(matches):
        raise ValueError(f"genotype: expected inputs of the form op(source), got {text.strip()!r}")
    return tuple((match[1], int(match[2])) for match in matches)


def _nodes(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split())
