"""All kinds of mail that this installation sends. Who sends a new one lists it here."""

from typing import Final

from governance.outbound.templates import MailKind, Words

TEST: Final = MailKind(
    "service.test",
    {
        "en": Words(
            "A test mail from {organisation}",
            """
            This is a test. {organisation} uses Tutela to record what people allow and refuse, and
            an operator wanted to know whether its mails arrive.

            You need not do anything.
            """,
        ),
        "de": Words(
            "Eine Testnachricht von {organisation}",
            """
            Das ist ein Test. {organisation} hält mit Tutela fest, was Menschen erlauben und
            ablehnen, und jemand wollte wissen, ob Nachrichten ankommen.

            Sie müssen nichts tun.
            """,
        ),
    },
)
"""Sent by an operator to an address of their own."""

CODE: Final = MailKind(
    "contact.code",
    {
        "en": Words(
            "Your code for {organisation}",
            """
            With this code you see and change what {organisation} may use your data for:

            {code}

            It works once, for {minutes} minutes, on the page on which it was asked for.

            If you did not ask for it, you need not do anything: without the code nobody sees or
            changes anything. We never ask for it by phone or e-mail.
            """,
        ),
        "de": Words(
            "Ihr Code für {organisation}",
            """
            Mit diesem Code sehen und ändern Sie, wofür {organisation} Ihre Daten nutzen darf:

            {code}

            Er gilt einmal, {minutes} Minuten lang, auf der Seite, auf der er angefordert wurde.

            Wenn Sie ihn nicht angefordert haben, müssen Sie nichts tun: Ohne den Code sieht und
            ändert niemand etwas. Wir fragen nie am Telefon oder per E-Mail danach.
            """,
        ),
        "fr": Words(
            "Votre code pour {organisation}",
            """
            Avec ce code, vous voyez et modifiez ce pour quoi {organisation} peut utiliser vos
            données :

            {code}

            Il fonctionne une seule fois, pendant {minutes} minutes, sur la page où il a été
            demandé.

            Si vous ne l'avez pas demandé, vous n'avez rien à faire : sans le code, personne ne
            voit ni ne modifie rien. Nous ne le demandons jamais par téléphone ou par e-mail.
            """,
        ),
        "es": Words(
            "Su código para {organisation}",
            """
            Con este código puede ver y cambiar para qué puede usar {organisation} sus datos:

            {code}

            Funciona una sola vez, durante {minutes} minutos, en la página en la que se pidió.

            Si no lo ha pedido, no tiene que hacer nada: sin el código nadie ve ni cambia nada.
            Nunca lo pedimos por teléfono ni por correo electrónico.
            """,
        ),
    },
)
"""Sent to a known contact whose owner wants to see their choices (`governance.contacts`)."""

CONFIRMATION: Final = MailKind(
    "confirmation.request",
    {
        "en": Words(
            "Please confirm: {purpose}",
            """
            On {date} your address was given to {controller} ({source}), to sign up for this:

            {purpose}: {description}

            If that was you, confirm it here. Opening the page changes nothing, it has a button:

            {link}

            You can do so until {until}. If it was not you, or if you have changed your mind, you
            need not do anything: without the confirmation we do not send it.

            These are the words that were shown when your address was given:

            {words}

            {controller}, {contact}
            """,
        ),
        "de": Words(
            "Bitte bestätigen: {purpose}",
            """
            Am {date} wurde Ihre Adresse bei {controller} angegeben ({source}), um sich hierfür
            anzumelden:

            {purpose}: {description}

            Wenn Sie das waren, bestätigen Sie es hier. Die Seite zu öffnen ändert nichts, sie hat
            einen Knopf:

            {link}

            Das geht bis {until}. Wenn Sie es nicht waren oder es sich anders überlegt haben, müssen
            Sie nichts tun: Ohne Bestätigung senden wir es nicht.

            Das sind die Worte, die gezeigt wurden, als Ihre Adresse angegeben wurde:

            {words}

            {controller}, {contact}
            """,
        ),
        "fr": Words(
            "Veuillez confirmer : {purpose}",
            """
            Le {date}, votre adresse a été indiquée à {controller} ({source}) pour cette
            inscription :

            {purpose} : {description}

            Si c'était vous, confirmez ici. Ouvrir la page ne change rien, elle a un bouton :

            {link}

            C'est possible jusqu'au {until}. Si ce n'était pas vous, ou si vous avez changé d'avis,
            vous n'avez rien à faire : sans confirmation, nous n'envoyons rien.

            Voici les mots qui ont été affichés lorsque votre adresse a été indiquée :

            {words}

            {controller}, {contact}
            """,
        ),
        "es": Words(
            "Confirme, por favor: {purpose}",
            """
            El {date} se indicó su dirección a {controller} ({source}) para esta inscripción:

            {purpose}: {description}

            Si fue usted, confírmelo aquí. Abrir la página no cambia nada; tiene un botón:

            {link}

            Puede hacerlo hasta el {until}. Si no fue usted, o si ha cambiado de opinión, no tiene
            que hacer nada: sin la confirmación no lo enviamos.

            Estas son las palabras que se mostraron cuando se indicó su dirección:

            {words}

            {controller}, {contact}
            """,
        ),
    },
)
"""Sent once to an address that signed up where that has to be confirmed (`consent.confirmations`).
It says when, how and for what, and advertises nothing."""

KINDS: Final = (TEST, CODE, CONFIRMATION)
