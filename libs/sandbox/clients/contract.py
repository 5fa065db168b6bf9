"""Judges answers by Paystack's OpenAPI document.

A difference has an address that stays the same from run to run: the call, the HTTP status, where in
the body (`*` for any place in a list) and which rule. Those that are deliberate are listed in
`differences.toml` with their reasons; one that is listed and does not occur is an error too.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import ValidationError
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import EMPTY_REGISTRY
from referencing.typing import URI

DOCUMENT: URI = "urn:paystack"
EXCERPT_CHARS = 80
# A part of a path that is unlike in every run.
ID = re.compile(r"/[0-9a-f]*[0-9][0-9a-f]*(?=/|$)")


@dataclass(frozen=True)
class Answer:
    """What was asked, and what came back."""

    method: str
    path: str
    status: int
    body: bytes


@dataclass(frozen=True, order=True)
class Address:
    """Where an answer differs from the document."""

    answer: str
    field: str
    kind: str

    def __str__(self) -> str:
        return f"{self.answer}  {self.kind}  {self.field or '(the whole answer)'}"


@dataclass(frozen=True)
class Difference:
    """An answer's departure from the document, and what it looks like."""

    address: Address
    detail: str


class Document:
    """Paystack's OpenAPI document."""

    def __init__(self, path: Path) -> None:
        self.root: dict[str, Any] = yaml.load(path.read_text(), yaml.CSafeLoader)
        self.registry: Registry = EMPTY_REGISTRY.with_resource(DOCUMENT, Resource.opaque(self.root))

    def judge(self, answer: Answer) -> list[Difference]:
        """Every difference between an answer and what the document says about it."""
        path = answer.path.split("?")[0].rstrip("/")
        template = self.template(path, answer.method.lower())
        call = f"{answer.method} {template or ID.sub('/{id}', path)} {answer.status}"
        if template is None:
            return [Difference(Address(call, "", "path"), "the document has no such call")]
        operation = self.root["paths"][template][answer.method.lower()]
        response = operation["responses"].get(str(answer.status))
        found = []
        if response is None:
            known = ", ".join(operation["responses"])
            found.append(Difference(Address(call, "", "status"), f"the document has {known}"))
            # What it has for every other refusal.
            schema = "#/components/schemas/Error"
        else:
            schema = self.schema(template, answer)
        try:
            body = json.loads(answer.body)
        except ValueError:
            detail = f"no JSON: {answer.body[:EXCERPT_CHARS]!r}"
            return [*found, Difference(Address(call, "", "body"), detail)]
        validator = OAS30Validator({"$ref": DOCUMENT + schema}, registry=self.registry)
        for error in validator.iter_errors(body):
            found.extend(Difference(Address(call, *at), why) for at, why in explain(error))
        return found

    def template(self, path: str, method: str) -> str | None:
        """The path of the document that fits best: the one with the fewest parameters."""
        parts = path.split("/")
        fitting = [
            template
            for template, operations in self.root["paths"].items()
            if method in operations and fits(template.split("/"), parts)
        ]
        return min(fitting, key=lambda template: template.count("{"), default=None)

    def schema(self, template: str, answer: Answer) -> str:
        """Reference to the schema of a response the document has."""
        operation = self.root["paths"][template][answer.method.lower()]
        response = operation["responses"][str(answer.status)]
        if "$ref" in response:
            at = response["$ref"]
        else:
            escaped = template.replace("/", "~1")
            at = f"#/paths/{escaped}/{answer.method.lower()}/responses/{answer.status}"
        return f"{at}/content/application~1json/schema".replace("{", "%7B").replace("}", "%7D")


def fits(template: list[str], parts: list[str]) -> bool:
    """Whether a path is one of those a template stands for."""
    if len(template) != len(parts):
        return False
    return all(t.startswith("{") or t == p for t, p in zip(template, parts, strict=True))


def explain(error: ValidationError) -> Iterator[tuple[tuple[str, str], str]]:
    """Field and kind of what is wrong, and what is there; one for each field that is missing."""
    at = "".join("/*" if isinstance(step, int) else f"/{step}" for step in error.absolute_path)
    kind = str(error.validator)
    rule: Any = error.validator_value
    schema: Any = error.schema
    value: Any = error.instance
    if kind == "required":
        for name in [name for name in rule if name not in value]:
            yield (f"{at}/{name}", kind), "missing"
    elif kind == "additionalProperties":
        for name in [name for name in value if name not in schema.get("properties", {})]:
            yield (f"{at}/{name}", kind), f"{excerpt(value[name])}, not in the document"
    else:
        yield (at, kind), f"{excerpt(value)}, in the document: {kind} {excerpt(rule)}"


def excerpt(value: Any) -> str:
    """The beginning of a value as JSON."""
    text = json.dumps(value)
    return text if len(text) <= EXCERPT_CHARS else f"{text[:EXCERPT_CHARS]}…"


def deliberate(path: Path) -> set[Address]:
    """The differences that are meant."""
    listed: set[Address] = set()
    for entry in tomllib.loads(path.read_text())["difference"]:
        if not entry["reason"].strip() or not entry["source"].strip():
            raise ValueError(f"{path.name}: a difference without reason or source: {entry}")
        for answer in entry["answers"]:
            for field in entry.get("fields", [""]):
                address = Address(answer, field, entry["kind"])
                if address in listed:
                    raise ValueError(f"{path.name} lists this twice: {address}")
                listed.add(address)
    return listed
