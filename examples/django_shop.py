"""A small shop in Django: offers go to customers who allow them, and to nobody else."""

import os
import secrets
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from consent.client.choices import Notice, granted
from consent.client.django import require_consent
from consent.client.errors import ClientError
from consent.client.http import Client
from consent.client.subjects import Subject, email

CUSTOMERS = {"1": "ada@example.com", "2": "bob@example.com"}  # invented, as everybody here
OFFERS = ("marketing_information", "email")
PRIVACY_NOTICE = Notice("privacy", "3", "en")

PAGE = """<!doctype html><html lang="en"><title>Shop</title><h1>Shop</h1>
{% if customer %}<p>You are customer {{ customer }}.</p>
<form method="post" action="/allow">{% csrf_token %}<button>E-mail me offers</button></form>
<form method="post" action="/stop">{% csrf_token %}<button>No offers any more</button></form>
<form method="post" action="/offers">{% csrf_token %}<button>Send me this week's</button></form>
{% else %}{% for one in customers %}<form method="post" action="/login/{{ one }}">
{% csrf_token %}<button>I am customer {{ one }}</button></form>{% endfor %}{% endif %}</html>"""

tutela = Client(os.environ["TUTELA_URL"], os.environ["TUTELA_KEY"])
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)


def current_customer(request: HttpRequest) -> Subject | None:
    """Who is logged in."""
    customer = request.session.get("customer")
    return email(CUSTOMERS[customer]) if customer in CUSTOMERS else None


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The one page."""
    names = {"customer": request.session.get("customer"), "customers": CUSTOMERS}
    return HttpResponse(engines["django"].from_string(PAGE).render(names, request))


@require_POST
def login(request: HttpRequest, customer: str) -> HttpResponse:
    """A real shop asks for a password."""
    if customer not in CUSTOMERS:
        raise Http404
    request.session["customer"] = customer
    return redirect("/")


@require_POST
def choose(request: HttpRequest, *, wanted: bool) -> HttpResponse:
    """They want offers, or do not want them any more."""
    customer = current_customer(request)
    if customer is None:
        return HttpResponse("Log in first.", status=401)
    try:
        if wanted:
            tutela.record(customer, granted(*OFFERS, notice=PRIVACY_NOTICE))
        else:
            tutela.withdraw(customer, *OFFERS)
    except ClientError:
        return HttpResponse("We could not note your choice. Please try again.", status=503)
    return redirect("/")


@require_POST
@require_consent(*OFFERS, subject=current_customer, using=tutela)
def offers(request: HttpRequest) -> HttpResponse:
    """Reached by those who allow it. A real shop sends the mail here."""
    return HttpResponse(f"Sent: {request.consent.reason}")


urlpatterns = [
    path("", home),
    path("login/<customer>", login),
    path("allow", choose, {"wanted": True}),
    path("stop", choose, {"wanted": False}),
    path("offers", offers),
]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
