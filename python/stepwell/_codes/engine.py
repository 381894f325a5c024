"""The codes of the engine: runs, steps, time, queues, the store, HTTP."""

from __future__ import annotations

CODES: dict[str, tuple[str, str, str]] = {
    "SW-E1000": ("internal error", "Something happened that should not be possible.", "Report it with the full text."),
    "SW-E1001": ("engine closed", "The engine was closed, or is being closed.", "Open an engine and ask again."),
    "SW-E1002": (
        "forked process",
        "Threads do not survive a fork, so a child cannot use its parent's engine.",
        "Open an engine of its own in the child, after the fork.",
    ),
    "SW-E1003": (
        "busy",
        "A bounded queue inside the engine is full.",
        "Wait a moment and try again, or start fewer at once.",
    ),
    "SW-E1004": (
        "wait timed out",
        "The run did not end in the time given. It goes on.",
        "Wait longer, or ask again later.",
    ),
    "SW-E1005": (
        "no such run",
        "The store holds no run of this name.",
        "Check the name and that it is the right store.",
    ),
    "SW-E1006": ("run cancelled", "Somebody cancelled the run.", "Start a new run if it is still wanted."),
    "SW-E1007": ("lease lost", "Another engine drives the run now.", "Nothing: the other engine's result counts."),
    "SW-E1008": (
        "run crashed too often",
        "The run was taken up many times and its process died each time, at last with no other suspect beside it.",
        "Look at what its input does to the workflow, then start it under a new key.",
    ),
    "SW-E1010": (
        "bad duration",
        "A duration was neither text such as 30s nor a timedelta, or not positive.",
        "Write 30s, 5m or 1h30m.",
    ),
    "SW-E1011": (
        "bad retry policy",
        "The number of attempts is out of range, or a step has a hedge, which only calls have.",
        "Use 1 to 1000 attempts, and no hedge for steps.",
    ),
    "SW-E1012": ("unknown durability", "Only two kinds exist.", 'Use "full" or "relaxed".'),
    "SW-E1013": (
        "bad store path",
        "The store's path cannot be a store.",
        "Name a file in a folder that can be written.",
    ),
    "SW-E1014": ("bad concurrency", "At least one at a time is needed.", "Use 1 or more."),
    "SW-E1015": (
        "run has ended",
        "A signal or an order was sent to a run that takes no more of them.",
        "Look at its result; start a new run if there is more to do.",
    ),
    "SW-E1016": (
        "too many messages",
        "A run holds 10,000 signals that it has not taken.",
        "Let the workflow take them, or send fewer.",
    ),
    "SW-E1017": (
        "run over its deadline",
        "The run did not end within the timeout it was started with.",
        "Raise the timeout, or look at what it waited for.",
    ),
    "SW-E1018": (
        "bad priority",
        "Priorities are small whole numbers; the smallest goes first.",
        "Use 0, or -10 to 10.",
    ),
    "SW-E1019": ("run has not ended", "Only an ended run can be replayed.", "Cancel it first, or let it end."),
    "SW-E1020": (
        "unknown workflow",
        "The engine does not serve this run's workflow.",
        "Call engine.serve(flow) first.",
    ),
    "SW-E1021": ("unknown option", "An option was given that does not exist.", "Choose from those in the message."),
    "SW-E1022": (
        "document was changed",
        "Somebody changed the same document between reading and writing it.",
        "Read it again, and write what follows from that.",
    ),
    "SW-E1023": (
        "bad limit",
        "A queue's limits are positive whole numbers and a Rate; there are no others than those listed.",
        "Check name and number; None lifts a limit.",
    ),
    "SW-E1024": (
        "start cannot join others",
        "A start with Debounce, Singleton or Collect takes its identity and its time from that.",
        "Leave out key and delay, or leave out collapse.",
    ),
    "SW-E1040": (
        "output cannot be written",
        "The terminal, pipe or file that the command writes to does not take its text; the work itself is done.",
        "Make room, or send the output elsewhere, and run the command again: nothing is done twice.",
    ),
    "SW-E1030": (
        "bad cron expression",
        "It does not have five or six fields, one of them is out of range, or it names a day that never comes.",
        'Write "minute hour day-of-month month day-of-week", such as "*/5 * * * *"; six fields begin with the second.',
    ),
    "SW-E1031": (
        "unknown time zone",
        "The system knows no time zone of this name.",
        'Use a name such as "Europe/Berlin"; where there are none at all: pip install tzdata.',
    ),
    "SW-E1032": (
        "bad list of schedules",
        "A schedule has no usable name, two have the same one, or there are too many.",
        "Give each a name of its own, of 1 to 150 printable characters.",
    ),
    "SW-E1033": (
        "bad policy for missed fires",
        "missed is skip, one or all, and max_missed a number from 1 to 1000.",
        "Correct it; use backfill for more of the past.",
    ),
    "SW-E1034": ("no such schedule", "The store holds no schedule of this name.", "Look at engine.schedules()."),
    "SW-E1035": (
        "bad range of a backfill",
        "It ends before it begins, reaches into the future, or holds more than 10,000 fires.",
        "Backfill the past, in parts if need be.",
    ),
    "SW-E1036": (
        "bad value of a schedule",
        "It is larger than 16 KiB, or its workflow takes a Tick instead.",
        "Pass a reference, or leave it out.",
    ),
    "SW-E1037": (
        "on_breach without a time",
        "There is no agreed time that could be breached.",
        'Give one: sla="5s".',
    ),
    "SW-E1101": (
        "store in use",
        "Another engine has this file open. One process owns a file.",
        "Close the other engine (its process id is in the message), or use another file.",
    ),
    "SW-E1102": (
        "store cannot be opened",
        "The file is missing, not readable, or not a Stepwell store.",
        "Check path and permissions.",
    ),
    "SW-E1103": (
        "store of another version",
        "The file was written by a newer Stepwell, or has a schema that this needs brought up first.",
        "Use the version that the message names; an older schema is brought up when an engine opens it.",
    ),
    "SW-E1104": (
        "disk trouble",
        "A read or write failed. The store stops acknowledging; what it had acknowledged is kept.",
        "Free space or mend the disk, then open the store again.",
    ),
    "SW-E1105": (
        "disk full",
        "There is no room for what must be written. The store takes nothing more; what it had acknowledged is kept.",
        "Free at least the file's length, then open the store again: it is copied before anything else.",
    ),
    "SW-E1106": (
        "store damaged",
        "SQLite, or a checksum, found that the file is not what was written.",
        "See what it is with `stepwell store verify FILE`; restore a backup. A run whose payload is damaged is paused.",
    ),
    "SW-E1107": (
        "no place for the copy",
        "The target of a backup or an export is taken, or cannot be written.",
        "Name a file that does not exist, in a folder that can be written.",
    ),
    "SW-E1108": (
        "cannot be imported",
        "The file is not a whole export, or one of its runs clashes with one that the store has.",
        "Export or copy the file again; import into a new store to keep both.",
    ),
    "SW-E1109": ("store without a file", "The engine keeps its runs in memory.", "Open it on a file."),
    "SW-E1110": (
        "bad retention",
        "Keys are kept 24 hours at least, alike for all workflows.",
        'Write Retention(finished="30d", keys="30d").',
    ),
    "SW-E1111": (
        "input is gone",
        "Retention has dropped the run's input and history; only key and result are kept.",
        "Give the input anew with value=..., or keep runs longer.",
    ),
    "SW-E1201": (
        "key taken by another input",
        "A key names one run: the same key with another input would be two runs.",
        "Use another key, or the same input.",
    ),
    "SW-E1202": ("bad key", "A key is 1 to 255 printable characters.", "Use an id such as the ticket's."),
    "SW-E1203": (
        "payload too large",
        "One value may have 32 MiB at most.",
        "Store the bytes elsewhere and pass a reference.",
    ),
    "SW-E1210": (
        "value has no JSON form",
        "Values are kept as JSON, never pickled.",
        "Return models, dataclasses or plain values.",
    ),
    "SW-E1211": (
        "value does not fit its type",
        "The recorded JSON is not what the annotation says.",
        "Check the annotation.",
    ),
    "SW-E1301": ("bad URL", "The URL is not http(s) or holds a user name.", "Write http(s)://host[:port]/path."),
    "SW-E1302": (
        "no connection",
        "The host has no address, or refused the connection.",
        "Check host and port, and that it runs.",
    ),
    "SW-E1303": (
        "timeout",
        "No whole answer came in time, or it began and then stalled.",
        "Raise the timeout (of a stall: Egress.stall), or ask the server's owner.",
    ),
    "SW-E1304": (
        "answer too large",
        "Headers or body are larger than allowed, or the body unpacks to far more than was sent.",
        "Ask for less, or raise body_bytes_max, bulk_bytes_max, header_bytes_max or unpack_ratio_max of sw.Egress.",
    ),
    "SW-E1305": (
        "TLS failed",
        "The certificate or the TLS handshake was refused.",
        "Check the host name and SSL_CERT_FILE.",
    ),
    "SW-E1306": (
        "connection broke",
        "The peer reset, or answered something that is not HTTP.",
        "Try again; check the URL's scheme.",
    ),
    "SW-E1307": (
        "refused by the server",
        "The server answered with an error status.",
        "Read its words in the message.",
    ),
    "SW-E1308": (
        "not the answer asked for",
        "The body is not the JSON that was asked for (often a proxy's HTML).",
        "Check the URL.",
    ),
    "SW-E1320": (
        "not a place that calls may go to",
        "The egress guard refused the host or an address that it resolves to: not the public internet, or denied.",
        'If you trust it, allow it: egress=sw.Egress(allow=["vllm.internal", "10.0.0.0/8"]), or STEPWELL_EGRESS_ALLOW.',
    ),
    "SW-E1321": (
        "plain http to another machine",
        "Request, answer and key would be readable on the way, and the answer could be anybody's.",
        "Use https://, or accept it with egress=sw.Egress(http=True) or STEPWELL_EGRESS_HTTP=1.",
    ),
    "SW-E1322": (
        "bad egress policy",
        "An entry is neither a host name, *.name, an address nor a block such as 10.0.0.0/8, or a number is out of range.",
        "Correct what the message names.",
    ),
    "SW-E1401": (
        "engine not at rest",
        "Runs of a test engine were still under way when its clock was to move.",
        "Look at what the steps under way wait for; a workflow that sleeps for ever needs clock.advance.",
    ),
    "SW-E1402": ("bad test setting", "A setting of stepwell.testing makes no sense.", "Use what the message expects."),
    "SW-E1403": ("no such store", "The file to replay does not exist.", "Check the path."),
    "SW-E1404": (
        "no workflow to replay",
        "The module holds no function decorated with @sw.workflow, or none of the name.",
        "Name the module with -m, and check --workflow.",
    ),
    "SW-E2000": ("run failed", "The workflow raised an exception.", "Its traceback is in error['traceback']."),
    "SW-E2001": ("step failed", "A step raised in its last attempt.", "Its traceback is in error['traceback']."),
    "SW-E2002": (
        "step timed out",
        "One attempt took longer than its timeout.",
        "Raise the timeout or make the step smaller.",
    ),
    "SW-E2003": ("too many inputs", "A workflow takes one input.", "Put the inputs into one dataclass, model or dict."),
    "SW-E2004": ("async step in a plain workflow", "A def workflow cannot await.", "Make the workflow async def."),
    "SW-E2005": ("not a workflow", "The function is not decorated.", "Decorate it with @stepwell.workflow."),
    "SW-E2006": (
        "no signal in time",
        "A wait with a timeout and no default ended without a signal.",
        "Send it earlier, raise the timeout, or give a default.",
    ),
    "SW-E2007": ("run compensated", "The workflow failed; what its steps did was undone.", "The cause is in .error."),
    "SW-E2008": (
        "code and history differ",
        "The workflow ended without asking for steps that its run had recorded: it was changed meanwhile.",
        "Bring the steps back, or guard the change with sw.patched, then resume the run. Nothing is lost.",
    ),
    "SW-E2009": (
        "not in a run",
        "This call means something only inside a workflow, or inside a step, that an engine runs.",
        "Start the workflow with an engine; call step_key and send in a step, the others outside of steps.",
    ),
    "SW-E2010": (
        "time without a zone",
        "A naive datetime names no moment.",
        "Use sw.now() or datetime(..., tzinfo=UTC).",
    ),
    "SW-E2011": ("nothing to wait for", "first() was called without branches.", "Give it at least one."),
    "SW-E2012": ("no such step", "The run's history holds no step of that name.", "Use a name that the message lists."),
    "SW-E2041": (
        "bad name",
        "A step or a workflow is recorded under its name; / and # stand between the parts of a recorded name.",
        "Use 1 to 200 printable characters without / and #.",
    ),
    "SW-E2042": (
        "too many branches",
        "One gather or map holds all its branches in memory until they have ended.",
        "Map in portions, or start a run for each item with Engine.map.",
    ),
    "SW-E2043": (
        "workflow name taken",
        "An engine serves another workflow of the same name; their runs could not be told apart.",
        'Give one of them another name: @sw.workflow(name="...").',
    ),
    "SW-E2044": (
        "children too deep",
        "A workflow has started itself as a child a hundred times, each waiting for the next.",
        "Let the recursion end; for work without end, send the next run instead of waiting for it.",
    ),
    "SW-E2045": (
        "history too long",
        "One run may record 500,000 events: steps, attempts that failed, waits.",
        "Divide the work into child runs, or let each run send the next one.",
    ),
}
