"""A small shop in Flask: offers go to customers who allow them, and to nobody else."""

import os
import secrets
from typing import Any

from flask import Flask, abort, g, redirect, render_template_string, session, url_for

from consent.client.choices import Notice, granted
from consent.client.errors import ClientError
from consent.client.flask import require_consent
from consent.client.http import Client
from consent.client.subjects import Subject, email

CUSTOMERS = {"1": "ada@example.com", "2": "bob@example.com"}  # invented, as everybody here
OFFERS = ("marketing_information", "email")
PRIVACY_NOTICE = Notice("privacy", "3", "en")

PAGE = """<!doctype html><html lang="en"><title>Shop</title><h1>Shop</h1>
{% if customer %}<p>You are customer {{ customer }}.</p>
{% for name, says in [("allow", "E-mail me offers"), ("stop", "No offers any more"),
                      ("offers", "Send me this week's")] %}
<form method="post" action="{{ url_for(name) }}"><button>{{ says }}</button></form>
{% endfor %}{% else %}{% for one in customers %}
<form method="post" action="{{ url_for('login', customer=one) }}">
<button>I am customer {{ one }}</button></form>{% endfor %}{% endif %}</html>"""

tutela = Client(os.environ["TUTELA_URL"], os.environ["TUTELA_KEY"])
app = Flask(__name__)
app.config.update(SECRET_KEY=secrets.token_hex(), SESSION_COOKIE_SAMESITE="Lax")


def current_customer() -> Subject | None:
    """Who is logged in."""
    customer = session.get("customer")
    return email(CUSTOMERS[customer]) if customer in CUSTOMERS else None


def logged_in() -> Subject:
    """Who is logged in; 401 if nobody is."""
    return current_customer() or abort(401)


@app.get("/")
def home() -> str:
    """The one page."""
    return render_template_string(PAGE, customer=session.get("customer"), customers=CUSTOMERS)


@app.post("/login/<customer>")
def login(customer: str) -> Any:
    """A real shop asks for a password."""
    if customer not in CUSTOMERS:
        abort(404)
    session["customer"] = customer
    return redirect(url_for("home"), 303)


@app.post("/allow")
def allow() -> Any:
    """They want offers."""
    tutela.record(logged_in(), granted(*OFFERS, notice=PRIVACY_NOTICE))
    return redirect(url_for("home"), 303)


@app.post("/stop")
def stop() -> Any:
    """They do not want them any more."""
    tutela.withdraw(logged_in(), *OFFERS)
    return redirect(url_for("home"), 303)


@app.post("/offers")
@require_consent(*OFFERS, subject=current_customer, using=tutela)
def offers() -> str:
    """Reached by those who allow it. A real shop sends the mail here."""
    return f"Sent: {g.consent.reason}"


@app.errorhandler(ClientError)
def not_noted(_: ClientError) -> tuple[str, int]:
    """A choice may not have been recorded: say so."""
    return "We could not note your choice. Please try again.", 503
