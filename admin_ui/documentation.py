"""The API's documentation: /openapi.json for programs, /docs for people.

Both come from the same blueprints and schemas that answer the calls, so they cannot disagree.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint as PlainBlueprint
from flask import Flask, Response, current_app, render_template
from flask_smorest import Api, Blueprint

from consent.api.http import reply
from policies.permissions import label_of, public

_EXTENSION: Final = "tutela.openapi"
_SCHEME: Final = "api_key"

blueprint = PlainBlueprint("documentation", __name__)
pages = PlainBlueprint("documentation_pages", __name__)
"""The page for people: it stands in the console's frame."""


def register(app: Flask, blueprints: Sequence[Blueprint], version: str) -> list[PlainBlueprint]:
    """Put the API's blueprints on the app and describe them. Returns all that were put."""
    app.config.update(
        API_TITLE="Tutela",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
        API_SPEC_OPTIONS={
            "info": {
                "version": version,
                "description": "May we use this, for this purpose, on this channel, now?",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
        },
    )
    api = Api(app)
    api.spec.components.security_scheme(
        _SCHEME,
        {"type": "http", "scheme": "bearer", "description": "An API key, made in the console."},
    )
    for one in blueprints:
        api.register_blueprint(one)
    app.register_blueprint(blueprint)
    app.extensions[_EXTENSION] = _with_scopes(app, api.spec.to_dict())
    return [*blueprints, blueprint]


def _with_scopes(app: Flask, spec: dict[str, Any]) -> dict[str, Any]:
    """Say of every call which scopes a key needs, from the labels that the guard enforces.

    What the library assumes of errors by default is taken out: each call names its own.
    """
    spec["components"].pop("responses", None)
    spec["components"]["schemas"].pop("Error", None)
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for converter in ("uuid", "path"):
            path = path.replace(f"<{converter}:", "<")
        operations = spec["paths"].get(path.replace("<", "{").replace(">", "}"), {})
        label = label_of(app.view_functions[rule.endpoint])
        for method, operation in operations.items():
            if isinstance(operation, dict):
                operation.get("responses", {}).pop("default", None)
            if label is not None and method.upper() in (rule.methods or ()):
                scopes = sorted(label.permissions)
                operation["security"] = [{_SCHEME: scopes}] if scopes else []
    return spec


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the running app."""
    document: dict[str, Any] = current_app.extensions[_EXTENSION]
    return document


@blueprint.get("/openapi.json")
@public("documentation says nothing that the source code does not")
def openapi_json() -> Response:
    """The OpenAPI 3.1 document."""
    return reply(openapi())


@pages.get("/docs")
@public("documentation says nothing that the source code does not")
def docs() -> str:
    """The same for people, without a script."""
    spec = openapi()
    return render_template("docs.html", version=spec["info"]["version"], calls=list(calls(spec)))


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a body, or a parameter."""

    name: str
    kind: str
    required: bool
    means: str


@dataclass(frozen=True, slots=True)
class Body:
    """What a call takes or gives in one media type."""

    media_type: str
    fields: list[Field]


@dataclass(frozen=True, slots=True)
class Answer:
    """One status that a call may answer."""

    status: str
    means: str
    bodies: list[Body]


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as the page shows it."""

    method: str
    path: str
    summary: str
    means: str
    scopes: list[str]
    parameters: list[Field]
    takes: list[Body]
    gives: list[Answer]

    @property
    def anchor(self) -> str:
        """The id of its section."""
        return f"{self.method}{self.path}".lower().translate(_IN_ANCHORS)


_IN_ANCHORS: Final = str.maketrans("/{}", "---")
_DEEPEST: Final = 3


def calls(spec: Mapping[str, Any]) -> Iterator[Call]:
    """The calls of an OpenAPI document, in its order."""
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            stated = [*methods.get("parameters", []), *operation.get("parameters", [])]
            scopes = [scope for one in operation.get("security", []) for scope in one[_SCHEME]]
            yield Call(
                method=method.upper(),
                path=path,
                summary=operation.get("summary", ""),
                means=operation.get("description", ""),
                scopes=scopes,
                parameters=[_parameter(one) for one in stated],
                takes=_bodies(spec, operation.get("requestBody", {})),
                gives=[
                    Answer(status, answer["description"], _bodies(spec, answer))
                    for status, answer in sorted(operation["responses"].items())
                ],
            )


def _parameter(stated: Mapping[str, Any]) -> Field:
    kind = f"{_kind(stated.get('schema', {}))}, in the {stated['in']}"
    return Field(stated["name"], kind, stated.get("required", False), stated.get("description", ""))


def _bodies(spec: Mapping[str, Any], holder: Mapping[str, Any]) -> list[Body]:
    return [
        Body(media_type, list(_fields(spec, content.get("schema", {}))))
        for media_type, content in holder.get("content", {}).items()
    ]


def _fields(
    spec: Mapping[str, Any], schema: Mapping[str, Any], before: str = ""
) -> Iterator[Field]:
    schema = _resolved(spec, schema)
    for name, stated in schema.get("properties", {}).items():
        member = _resolved(spec, stated)
        yield Field(
            before + name,
            _kind(member),
            name in schema.get("required", []),
            stated.get("description", member.get("description", "")),
        )
        inner = _resolved(spec, member.get("items", member))
        if inner.get("properties") and before.count(".") < _DEEPEST:
            listed = "[]." if "items" in member else "."
            yield from _fields(spec, inner, f"{before}{name}{listed}")


def _resolved(spec: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    for one in (schema, *schema.get("allOf", [])):
        if "$ref" in one:
            found: Mapping[str, Any] = spec["components"]["schemas"][one["$ref"].rpartition("/")[2]]
            return found
    return schema


def _kind(schema: Mapping[str, Any]) -> str:
    if "oneOf" in schema:
        forms = [" and ".join(one.get("properties", {})) for one in schema["oneOf"]]
        return "one of " + ", ".join(form for form in forms if form)
    if "enum" in schema:
        return "one of " + ", ".join(str(one) for one in schema["enum"] if one is not None)
    kind = schema.get("type", "object")
    named = " or ".join(one for one in kind if one != "null") if isinstance(kind, list) else kind
    return str(schema.get("format", named))
