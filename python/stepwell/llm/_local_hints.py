"""What very common help-desk labels mean, in words that people who write to a help desk use.

A label such as "Technical" or "General" says little by its name alone. This table is general knowledge, written by hand;
nothing in it was learned from a data set. A term matches by its stem; a term that ends in `*` matches every word that
begins so, which is how German compounds and Spanish endings are caught. Two words joined by a space match as neighbours.
"""

from __future__ import annotations

# Words that add nothing to a label's meaning: "Billing Inquiries" is "Billing".
GENERIC_WORDS = frozenset(
    "support issue issues question questions inquiry inquiries enquiry enquiries team department dept queue request "
    "requests help service services desk problem problems ticket tickets management related topic topics category "
    "anfrage anfragen abteilung consulta consultas soporte".split()
)

# concept: (other names of the label, strong terms, weak terms)
_CONCEPTS: dict[str, tuple[str, str, str]] = {
    "billing": (
        "billing bill bills invoice invoices invoicing payment payments finance accounting charges rechnung rechnungen "
        "abrechnung buchhaltung zahlung zahlungen facturación facturas pagos",
        "billing, invoice, charge, payment, refund, credit card, credit note, charged twice, double charge, overcharge, "
        "vat, tax, subscription fee, direct debit, receipt, billed, bank statement, purchase order, pro rata, prorated, "
        "rechnung*, abbuch*, abgebucht, zahlung*, lastschrift*, erstattung*, gutschrift*, mehrwertsteuer*, kreditkarte*, "
        "factura*, cobr*, cargo, pago, reembolso*, iva, tarjeta",
        "pay, paid, price, plan, subscription, renewal, renew, discount, coupon, cost, fee, amount, balance, bank, card, "
        "euro, dollar, upgrade, downgrade, cheaper, money, quote, betrag*, preis*, bezahl*, konto belastet, importe, "
        "dinero, precio*, suscripción, banco",
    ),
    "technical": (
        "technical tech technology bug bugs it software application app error errors technik technisch technische "
        "technischer técnico tecnico técnica",
        "error, bug, crash, broken, freeze, exception, stack trace, timeout, timed out, server error, not working, "
        "stop working, does not work, http, api, sdk, webhook, integration, sync, endpoint, firmware, driver, install, "
        "installation, offline, outage, latency, slow, blank page, browser, log file, export, import, crashed, hang, "
        "unresponsive, glitch, json, csv, bluetooth, wifi, pairing, absturz*, abgestürzt, stürzt, fehlermeldung*, "
        "fehler*, störung*, schnittstelle*, funktioniert nicht, hängt, falla*, fallo*, no funciona, se cierra, "
        "bloquea*, servidor*, navegador*",
        "update, version, screen, load, loading, page, button, fail, failure, device, app, connect, connection, server, "
        "upload, download, file, data, network, dashboard, screenshot, restart, reboot, reinstall, click, fix, database, "
        "notification, sensor, aktualisier*, gerät*, verbindung*, lädt, bildschirm*, aplicación, pantalla*, "
        "actualiz*, conexión, dispositivo*",
    ),
    "account": (
        "account accounts login profile user users access authentication identity konto konten benutzerkonto zugang "
        "anmeldung cuenta cuentas acceso",
        "account, password, login, log in, sign in, logged out, locked out, lock, username, two factor, authenticator, "
        "verification code, verification email, reset link, profile, email address, permission, seat, sso, mfa, 2fa, "
        "credential, deactivate, delete my, close my, passwort*, kennwort*, anmeld*, einlogg*, benutzer*, konto, "
        "gesperrt*, zugang*, zugriff*, contraseña*, iniciar sesión, cuenta, usuario*, correo electrónico, perfil*",
        "access, user, reset, invite, invitation, admin, role, owner, member, register, verify, code, hacked, phone number, "
        "settings, workspace, team member, name change, merge, email, löschen, einladung*, acceder, código, registr*",
    ),
    "shipping": (
        "shipping shipment shipments delivery deliveries logistics fulfillment fulfilment versand lieferung lieferungen "
        "envío envíos entrega entregas",
        "shipping, shipment, deliver, delivery, parcel, package, courier, tracking, track, carrier, customs, warehouse, "
        "dispatch, depot, pallet, lost in transit, wrong address, delivery address, shipped, arrive, doorstep, "
        "versand*, liefer*, paket*, sendung*, zustell*, spedition*, zoll*, lieferadresse*, envío*, envio*, paquete*, "
        "entrega*, repartidor*, pedido, aduana*, mensajer*",
        "order, box, address, driver, arrived, missing, damaged, delay, label, return, neighbour, pick up, post office, "
        "transit, signature, reschedule, wrong item, wrong size, bestell*, adresse*, beschädigt*, angekommen*, nachbar*, "
        "dirección*, llegado, llegó, dañad*",
    ),
    "refund": (
        "refund refunds return returns reimbursement rückerstattung erstattung retoure reembolso devoluciones",
        "refund, money back, reimburse, return, send back, chargeback, erstatt*, rückerstatt*, rückgabe*, retoure*, "
        "reembolso*, devol*",
        "credit, cancel, cancelled, faulty, broken, exchange, receipt, geld zurück, umtausch*, dinero",
    ),
    "sales": (
        "sales sale presales quotes quote vertrieb verkauf ventas",
        "quote, pricing, demo, enterprise plan, volume discount, reseller, trial, buy, purchase, proposal, licence, license, "
        "angebot*, vertrieb*, kaufen, cotización*, presupuesto*, comprar",
        "price, seats, compare, interested, upgrade, offer, sales, business, discount, contract, preis*, precio*",
    ),
    "feedback": (
        "feedback complaint complaints suggestion suggestions review praise beschwerde beschwerden sugerencias quejas",
        "feedback, suggestion, suggest, complaint, complain, disappointed, feature request, would be nice, love, improve, "
        "review, survey, rude, praise, vorschlag*, beschwer*, verbesser*, sugerencia*, queja*",
        "wish, idea, great, terrible, awful, happy, unhappy, experience, thank, recommend, enttäuscht*, gracias",
    ),
    "order": (
        "order orders purchase purchases purchasing bestellung bestellungen pedido pedidos",
        "order, purchase, buy, cart, checkout, item, product, stock, bestell*, pedido*, compra*",
        "quantity, change, cancel, confirm, confirmation, add, remove, price, deliver, artikel*, artículo*",
    ),
    "cancellation": (
        "cancellation cancellations cancel churn retention kündigung stornierung cancelación baja",
        "cancel, cancellation, terminate, unsubscribe, end my, close my, kündig*, stornier*, cancelar, baja",
        "subscription, contract, renewal, stop, leave, fee, notice, vertrag*, contrato*, suscripción",
    ),
    "security": (
        "security fraud abuse privacy sicherheit datenschutz seguridad fraude",
        "fraud, phishing, hacked, hack, stolen, suspicious, breach, vulnerability, malware, scam, unauthorised, unauthorized, "
        "gdpr, privacy, personal data, betrug*, gehackt*, datenschutz*, fraude*, robad*",
        "password, login, attack, virus, spam, leak, report, security, verdächtig*, sospechos*",
    ),
    "hardware": (
        "hardware equipment devices",
        "laptop, monitor, keyboard, mouse, printer, screen, battery, headset, docking station, charger, cable, phone, disk",
        "broken, replace, replacement, desk, device, computer, slow, power",
    ),
    "hr": (
        "hr personnel payroll",
        "holiday, vacation, leave, payroll, salary, payslip, employee, onboarding, contract, sick, benefit, timesheet, hiring",
        "manager, colleague, training, interview, absence, hours, office",
    ),
    "general": (
        "general other misc miscellaneous others everything allgemein allgemeines sonstiges general otros otro",
        "opening hours, office hours, partnership, press, journalist, student, school, university, career, job, internship, "
        "newsletter, webinar, training, documentation, brochure, roadmap, feature request, suggestion, feedback, thank, "
        "sponsor, event, conference, question, information, curious, wondering, do you, would like to know, "
        "öffnungszeit*, vorschlag*, frage, allgemein*, praktikum*, schulung*, danke, lob, horario*, pregunta*, "
        "información, sugerencia*, colabora*, gracias, felicit*",
        "general, know, idea, offer, recommend, interested, policy, support, contact, company, community, hours, language, "
        "compare, plan to, love, great, team, interview, visit, wissen, möglich*, empfehl*, saber, ofrecen, empresa",
    ),
}


def _split(terms: str) -> list[str]:
    return [term.strip() for term in terms.split(",") if term.strip()]


_BY_NAME = {name: concept for concept, (names, _, _) in _CONCEPTS.items() for name in names.split()}


def built_in_terms(words: list[str]) -> tuple[list[str], list[str]]:
    """The strong and the weak terms for a label of these words; two empty lists when it is not a common one.

    Only a label that comes down to one word gets them: "Billing" and "Billing Inquiries" do, "billing address change"
    is specific enough to speak for itself.
    """
    kept = [word for word in words if word not in GENERIC_WORDS]
    concept = _BY_NAME.get(kept[0]) if len(kept) == 1 else None
    if concept is None:
        return [], []
    _, strong, weak = _CONCEPTS[concept]
    return _split(strong), _split(weak)
