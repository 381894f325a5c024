"""What very common help-desk labels mean, in words that people who write to a help desk use.

A label such as "Technical" or "General" says little by its name alone. This table is general knowledge, written by
hand; nothing in it was learned from a data set. A term matches by its stem; a term that ends in `*` matches every word
that begins so, which is how German compounds and Spanish endings are caught. Two words match as neighbours;
there are no longer terms.
"""

from __future__ import annotations

# Words that add nothing to a label's meaning: "Billing Inquiries" is "Billing".
_GENERIC_WORDS = frozenset(
    """
    support issue issues question questions inquiry inquiries enquiry enquiries team department dept queue request
    requests help service services desk problem problems ticket tickets management related topic topics category
    anfrage anfragen abteilung consulta consultas soporte
    """.split()  # noqa: SIM905 - thirty quoted words read worse
)

# For each concept the names a label may have, then the terms that speak for it, strongly or weakly.
_TABLE = """
[billing]
name: billing bill bills invoice invoices invoicing payment payments finance accounting charges rechnung
name: rechnungen abrechnung buchhaltung zahlung zahlungen facturación facturas pagos
strong: billing, invoice, charge, payment, refund, credit card, credit note, charged twice, double charge
strong: overcharge, vat, tax, subscription fee, direct debit, receipt, billed, bank statement, purchase order
strong: pro rata, prorated, rechnung*, abbuch*, abgebucht, zahlung*, lastschrift*, erstattung*, gutschrift*
strong: mehrwertsteuer*, kreditkarte*, factura*, cobr*, cargo, pago, reembolso*, iva, tarjeta
weak: pay, paid, price, plan, subscription, renewal, renew, discount, coupon, cost, fee, amount, balance, bank
weak: card, euro, dollar, upgrade, downgrade, cheaper, money, quote, betrag*, preis*, bezahl*, konto belastet
weak: importe, dinero, precio*, suscripción, banco
[technical]
name: technical tech technology bug bugs it software application app error errors technik technisch technische
name: technischer técnico tecnico técnica
strong: error, bug, crash, broken, freeze, exception, stack trace, timeout, timed out, server error, not working
strong: stop working, http, api, sdk, webhook, integration, sync, endpoint, firmware, driver
strong: install, installation, offline, outage, latency, slow, blank page, browser, log file, export, import
strong: crashed, hang, unresponsive, glitch, json, csv, bluetooth, wifi, pairing, absturz*, abgestürzt, stürzt
strong: fehlermeldung*, fehler*, störung*, schnittstelle*, funktioniert nicht, hängt, falla*, fallo*, no funciona
strong: se cierra, bloquea*, servidor*, navegador*
weak: update, version, screen, load, loading, page, button, fail, failure, device, app, connect, connection
weak: server, upload, download, file, data, network, dashboard, screenshot, restart, reboot, reinstall, click
weak: fix, database, notification, aktualisier*, gerät*, verbindung*, lädt, bildschirm*, aplicación
weak: pantalla*, actualiz*, conexión, dispositivo*
[account]
name: account accounts login profile user users access authentication identity konto konten benutzerkonto zugang
name: anmeldung cuenta cuentas acceso
strong: account, password, login, log in, sign in, logged out, locked out, lock, username, two factor
strong: authenticator, verification code, verification email, reset link, profile, email address, permission, seat
strong: sso, mfa, 2fa, credential, deactivate, delete my, close my, passwort*, kennwort*, anmeld*, einlogg*
strong: benutzer*, konto, gesperrt*, zugang*, zugriff*, contraseña*, iniciar sesión, cuenta, usuario*
strong: correo electrónico, perfil*
weak: access, user, reset, invite, invitation, admin, role, owner, member, register, verify, code, hacked
weak: phone number, settings, workspace, team member, name change, merge, email, löschen, einladung*, acceder
weak: código, registr*
[shipping]
name: shipping shipment shipments delivery deliveries logistics fulfillment fulfilment versand lieferung
name: lieferungen envío envíos entrega entregas
strong: shipping, shipment, deliver, delivery, parcel, package, courier, tracking, track, carrier, customs
strong: warehouse, dispatch, depot, pallet, in transit, wrong address, delivery address, shipped, arrive
strong: doorstep, versand*, liefer*, paket*, sendung*, zustell*, spedition*, zoll*, lieferadresse*, envío*, envio*
strong: paquete*, entrega*, repartidor*, pedido, aduana*, mensajer*
weak: order, box, address, driver, arrived, missing, damaged, delay, label, return, neighbour, pick up
weak: post office, transit, signature, reschedule, wrong item, wrong size, bestell*, adresse*, beschädigt*
weak: angekommen*, nachbar*, dirección*, llegado, llegó, dañad*
[refund]
name: refund refunds return returns reimbursement rückerstattung erstattung retoure reembolso devoluciones
strong: refund, money back, reimburse, return, send back, chargeback, erstatt*, rückerstatt*, rückgabe*, retoure*
strong: reembolso*, devol*
weak: credit, cancel, cancelled, faulty, broken, exchange, receipt, geld zurück, umtausch*, dinero
[sales]
name: sales sale presales quotes quote vertrieb verkauf ventas
strong: quote, pricing, demo, enterprise plan, volume discount, reseller, trial, buy, purchase, proposal, licence
strong: license, angebot*, vertrieb*, kaufen, cotización*, presupuesto*, comprar
weak: price, seats, compare, interested, upgrade, offer, sales, business, discount, contract, preis*, precio*
[feedback]
name: feedback complaint complaints suggestion suggestions review praise beschwerde beschwerden sugerencias
name: quejas
strong: feedback, suggestion, suggest, complaint, complain, disappointed, feature request, would be nice, love
strong: improve, review, survey, rude, praise, vorschlag*, beschwer*, verbesser*, sugerencia*, queja*
weak: wish, idea, great, terrible, awful, happy, unhappy, experience, thank, recommend, enttäuscht*, gracias
[order]
name: order orders purchase purchases purchasing bestellung bestellungen pedido pedidos
strong: order, purchase, buy, cart, checkout, item, product, stock, bestell*, pedido*, compra*
weak: quantity, change, cancel, confirm, confirmation, add, remove, price, deliver, artikel*, artículo*
[cancellation]
name: cancellation cancellations cancel churn retention kündigung stornierung cancelación baja
strong: cancel, cancellation, terminate, unsubscribe, end my, close my, kündig*, stornier*, cancelar, baja
weak: subscription, contract, renewal, stop, leave, fee, notice, vertrag*, contrato*, suscripción
[security]
name: security fraud abuse privacy sicherheit datenschutz seguridad fraude
strong: fraud, phishing, hacked, hack, stolen, suspicious, breach, vulnerability, malware, scam, unauthorised
strong: unauthorized, gdpr, privacy, personal data, betrug*, gehackt*, datenschutz*, fraude*, robad*
weak: password, login, attack, virus, spam, leak, report, security, verdächtig*, sospechos*
[hardware]
name: hardware equipment devices
strong: laptop, monitor, keyboard, mouse, printer, screen, battery, headset, docking station, charger, cable
strong: phone, disk
weak: broken, replace, replacement, desk, device, computer, slow, power
[hr]
name: hr personnel payroll
strong: holiday, vacation, leave, payroll, salary, payslip, employee, onboarding, contract, sick, benefit
strong: timesheet, hiring
weak: manager, colleague, training, interview, absence, hours, office
[general]
name: general other misc miscellaneous others everything allgemein allgemeines sonstiges otros otro
strong: opening hours, office hours, partnership, press, journalist, student, school, university, career, job
strong: internship, newsletter, webinar, training, documentation, brochure, roadmap, feature request, suggestion
strong: feedback, thank, sponsor, event, conference, question, information, curious, wondering, do you
strong: like to, öffnungszeit*, vorschlag*, frage, allgemein*, praktikum*, schulung*, danke, lob
strong: horario*, pregunta*, información, sugerencia*, colabora*, gracias, felicit*
weak: general, know, idea, offer, recommend, interested, policy, support, contact, company, community, hours
weak: language, compare, plan to, love, great, team, interview, visit, wissen, möglich*, empfehl*, saber
weak: ofrecen, empresa
"""


def _read_table() -> dict[str, tuple[list[str], list[str]]]:
    """Read the table: name of a label -> its strong and its weak terms."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    terms: tuple[list[str], list[str]] = ([], [])
    for line in _TABLE.strip().splitlines():
        if line.startswith("["):
            terms = ([], [])
            continue
        kind, _, text = line.partition(": ")
        if kind == "name":
            found.update(dict.fromkeys(text.split(), terms))
        else:
            terms[kind == "weak"].extend(text.split(", "))
    return found


_BY_NAME = _read_table()


def built_in_terms(words: list[str]) -> tuple[list[str], list[str]]:
    """The strong and the weak terms for a label of these words; two empty lists when it is not a common one.

    Only a label that comes down to one word gets them: "Billing" and "Billing Inquiries" do, "billing address change"
    is specific enough to speak for itself.
    """
    kept = [word for word in words if word not in _GENERIC_WORDS]
    strong, weak = _BY_NAME.get(kept[0], ([], [])) if len(kept) == 1 else ([], [])
    return list(strong), list(weak)
