"""A small shop in FastAPI: offers go to customers who allow them, and to nobody else."""

import os
import secrets
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.middleware.sessions import SessionMiddleware

from consent.client.choices import Notice, granted
from consent.client.decisions import Decision
from consent.client.errors import ClientError
from consent.client.fastapi import require_consent
from consent.client.http import Client
from consent.client.subjects import Subject, email

CUSTOMERS = {"1": "ada@example.com", "2": "bob@example.com"}  # invented, as everybody here
OFFERS = ("marketing_information", "email")
PRIVACY_NOTICE = Notice("privacy", "3", "en")

PAGE = '<!doctype html><html lang="en"><title>Shop</title><h1>Shop</h1>'
FORM = '<form method="post" action="/{}"><button>{}</button></form>'

tutela = Client(os.environ["TUTELA_URL"], os.environ["TUTELA_KEY"])
app = FastAPI(title="Shop")
app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex(), same_site="lax")


def current_customer(request: Request) -> Subject | None:
    """Who is logged in."""
    customer = request.session.get("customer")
    return email(CUSTOMERS[customer]) if customer in CUSTOMERS else None


def logged_in(customer: Annotated[Subject | None, Depends(current_customer)]) -> Subject:
    """Who is logged in; 401 if nobody is."""
    if customer is None:
        raise HTTPException(401, "Log in first.")
    return customer


LoggedIn = Annotated[Subject, Depends(logged_in)]
Allowed = Annotated[
    Decision, Depends(require_consent(*OFFERS, subject=current_customer, using=tutela))
]


@app.get("/", response_class=HTMLResponse)
def home(request: Request) -> str:
    """The one page."""
    customer = request.session.get("customer")
    if customer not in CUSTOMERS:
        return PAGE + "".join(FORM.format(f"login/{n}", f"I am customer {n}") for n in CUSTOMERS)
    forms = {
        "allow": "E-mail me offers",
        "stop": "No offers any more",
        "offers": "Send me this week's",
    }
    you = f"<p>You are customer {customer}.</p>"
    return PAGE + you + "".join(FORM.format(*form) for form in forms.items())


@app.post("/login/{customer}")
def login(request: Request, customer: str) -> RedirectResponse:
    """A real shop asks for a password."""
    if customer not in CUSTOMERS:
        raise HTTPException(404)
    request.session["customer"] = customer
    return RedirectResponse("/", 303)


@app.post("/allow")
def allow(customer: LoggedIn) -> RedirectResponse:
    """They want offers."""
    tutela.record(customer, granted(*OFFERS, notice=PRIVACY_NOTICE))
    return RedirectResponse("/", 303)


@app.post("/stop")
def stop(customer: LoggedIn) -> RedirectResponse:
    """They do not want them any more."""
    tutela.withdraw(customer, *OFFERS)
    return RedirectResponse("/", 303)


@app.post("/offers")
async def offers(decision: Allowed) -> str:
    """Reached by those who allow it. A real shop sends the mail here."""
    return f"Sent: {decision.reason}"


@app.exception_handler(ClientError)
def not_noted(_: Request, __: Exception) -> JSONResponse:
    """A choice may not have been recorded: say so."""
    return JSONResponse({"detail": "We could not note your choice. Please try again."}, 503)
