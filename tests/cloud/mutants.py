"""Mistakes that a client for paid machines could have, and the test that each turns red."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    name: str
    module: str
    old: str
    new: str
    test: str
    """A file of tests/cloud without its `test_`, and what `-k` takes."""


MUTANTS = (
    Mutant(
        "no intent",
        "launching",
        "session.ledger.append(self._intent(spec))",
        "pass",
        "launching intent_is_synced",
    ),
    Mutant(
        "intent after the order",
        "launching",
        "            return self._created(session.provider.create(spec), spec)\n",
        "            made = session.provider.create(spec)\n"
        "            session.ledger.append(self._intent(spec))\n"
        "            return self._created(made, spec)\n",
        "launching whole_story",
    ),
    Mutant(
        "no created",
        "launching",
        "            session.ledger.append(record)\n",
        "            pass\n",
        "launching whole_story",
    ),
    Mutant(
        "no adopted",
        "session",
        "        self.note(record)\n",
        "        pass\n",
        "unclear_orders two_hundred",
    ),
    Mutant(
        "no unknown",
        "launching",
        "self._note(spec, Event.UNKNOWN, error.message)",
        "pass",
        "launching fails_unclearly",
    ),
    Mutant(
        "no refused",
        "launching",
        "self._note(spec, Event.REFUSED, error.message)",
        "pass",
        "launching exit_code_75",
    ),
    Mutant(
        "no terminating",
        "ending",
        "session.note(_record(session, machine, Event.TERMINATING, reason=reason))",
        "pass",
        "launching whole_story",
    ),
    Mutant(
        "no terminated",
        "ending",
        "            Event.TERMINATED,\n",
        "            Event.STATUS,\n",
        "launching whole_story",
    ),
    Mutant(
        "no left",
        "ending",
        (
            "    except LeftRunningError as error:\n"
            "        session.note(_record(session, machine, Event.LEFT, reason=error.message))\n"
            "        raise\n"
            "    except BaseException as error:  # Ctrl-C"
        ),
        (
            "    except LeftRunningError as error:\n"
            "        raise\n"
            "    except BaseException as error:  # Ctrl-C"
        ),
        "survey loudly",
    ),
    Mutant(
        "no fsync",
        "ledger",
        "                self._fsync(handle)\n            finally",
        "            finally",
        "ledger is_synced",
    ),
    Mutant(
        "fsync before the write",
        "ledger",
        "                _write_all(handle, line)\n                self._fsync(handle)\n",
        "                self._fsync(handle)\n                _write_all(handle, line)\n",
        "ledger is_synced",
    ),
    Mutant(
        "no lock",
        "ledger",
        'with locked(lock, clock=self._clock, wait_s=LOCK_WAIT_S, holder="another aquachat"):',
        "if True:",
        "ledger let_go",
    ),
    Mutant(
        "a torn line is written on",
        "ledger",
        "                self._set_torn_line_apart(handle)\n",
        "",
        "ledger torn",
    ),
    Mutant(
        "a torn line is thrown away",
        "ledger",
        '            _write_all(torn, tail + b"\\n")\n',
        "            pass\n",
        "ledger torn",
    ),
    Mutant(
        "a secret in the ledger",
        "ledger",
        "key: self._redactor.clean(value) if isinstance(value, str) else value",
        "key: value",
        "ledger no_secret",
    ),
    Mutant(
        "a write is sent twice",
        "http",
        (
            '            answer = self._send("POST", path, body, self._timeouts.write_s, '
            "kind=kind)\n"
        ),
        (
            '            self._send("POST", path, body, self._timeouts.write_s, kind=kind)\n'
            '            answer = self._send("POST", path, body, self._timeouts.write_s, '
            "kind=kind)\n"
        ),
        "http sent_once",
    ),
    Mutant(
        "a 500 of a write is a refusal",
        "http",
        "if problem.is_upstream or unclear:",
        "if unclear:",
        "http unclear",
    ),
    Mutant(
        "a lost answer is a refusal",
        "http",
        "raise self._ambiguous(error.message) from error",
        'raise NotSentError("not sent", hint="x") from error',
        "unclear_orders two_hundred",
    ),
    Mutant(
        "a 200 without JSON is a refusal",
        "http",
        'raise self._ambiguous("its answer is no JSON", answer.status) from error',
        'raise RefusedError("no JSON", hint="x") from error',
        "unclear_orders two_hundred",
    ),
    Mutant(
        "a 409 of a write is a refusal",
        "http",
        "frozenset({408, 409})\n",
        "frozenset({408})\n",
        "http unclear",
    ),
    Mutant(
        "a 429 is unclear",
        "http",
        "frozenset({408, 409})\n",
        "frozenset({408, 409, 429})\n",
        "http refused",
    ),
    Mutant(
        "a redirect is a plain refusal",
        "http",
        "if 300 <= problem.status < 400:",
        "if problem.status == 399:",
        "http redirect",
    ),
    Mutant(
        "no second try of a read",
        "http",
        "READ_TRIES: Final = 6",
        "READ_TRIES: Final = 1",
        "http tried_again",
    ),
    Mutant(
        "Retry-After is ignored",
        "http",
        "return max(jittered_s, min(asked_s, 2 * MAX_PAUSE_S)) if asked_s else jittered_s",
        "return jittered_s",
        "http retry_after",
    ),
    Mutant(
        "no user agent",
        "http",
        '"User-Agent": user_agent',
        '"X-Agent": user_agent',
        "http user_agent",
    ),
    Mutant(
        "no pause between orders",
        "pacer",
        "            if is_launch:\n",
        "            if False:\n",
        "http distance",
    ),
    Mutant(
        "no pause between requests",
        "pacer",
        "slot = max(now, _due_s(self._last_s, self._interval_s, now))",
        "slot = now",
        "http distance",
    ),
    Mutant(
        "a refused connection is unclear",
        "wire",
        "raise NotSentWireError(_reason(error)) from error",
        "raise NoAnswerWireError(_reason(error)) from error",
        "http not_sent",
    ),
    Mutant(
        "an answer of any length",
        "wire",
        "if size > MAX_BODY_BYTES:",
        "if size < 0:",
        "http endless",
    ),
    Mutant(
        "half an answer",
        "wire",
        "    if response.length:",
        "    if False:",
        "http broken_answer",
    ),
    Mutant(
        "the key goes anywhere",
        "wire",
        'if parts.scheme == "http" and not is_loopback(parts.hostname):',
        "if False:",
        "http show_the_key",
    ),
    Mutant(
        "the key is shown",
        "redaction",
        'text = text.replace(secret, "[key redacted]")',
        "pass",
        "http echoes",
    ),
    Mutant(
        "a host key is shown",
        "redaction",
        "-----BEGIN[^-]*PRIVATE KEY-----.",
        "-----NEVER-----.",
        "http echoes",
    ),
    Mutant(
        "an unclear order is not looked for",
        "launching",
        "found = self._find(known)\n            if not found:",
        "found = []\n            if not found:",
        "unclear_orders two_hundred",
    ),
    Mutant(
        "looked for only once",
        "launching",
        "RECONCILE_S: Final = 60.0",
        "RECONCILE_S: Final = 0.0",
        "unclear_orders two_hundred",
    ),
    Mutant(
        "could not ask is none",
        "launching",
        "raise self._not_known(trouble) from error",
        "return []",
        "launching cannot_be_read",
    ),
    Mutant(
        "adopted by another is none",
        "launching",
        "and i.id not in known]",
        "and i.id not in session.job(self._plan.job).machines]",
        "launching status_command",
    ),
    Mutant(
        "all of several are kept",
        "launching",
        (
            '            terminate_and_confirm(session, extra, reason="the order made more than '
            'one")\n'
        ),
        "            pass\n",
        "launching several",
    ),
    Mutant(
        "late machines are left",
        "booting",
        "    for stray in strays(",
        "    for stray in () and strays(",
        "unclear_orders after_a_minute",
    ),
    Mutant(
        "Ctrl-C in the order is left",
        "launching",
        "            self._end_whatever_there_is(spec, known)\n",
        "",
        "kills ctrl_c_at",
    ),
    Mutant(
        "Ctrl-C while booting is left",
        "ending",
        (
            '        end_live(session, job, reason=f"{type(error).__name__} before training '
            'started")\n'
        ),
        "",
        "kills ctrl_c_at",
    ),
    Mutant(
        "a machine that is not written down is left",
        "launching",
        (
            '            terminate_and_confirm(session, machine, reason="it could not be '
            'written down")\n'
        ),
        "            pass\n",
        "launching written_down",
    ),
    Mutant(
        "a 200 on terminate is trusted",
        "ending",
        "        problem = _ask_to_end(session, machine)\n",
        (
            "        problem = _ask_to_end(session, machine)\n"
            "        if not problem:\n"
            '            return "terminated"\n'
        ),
        "fault_points terminate",
    ),
    Mutant(
        "terminate is sent once",
        "ending",
        "    while True:\n        problem = _ask_to_end(session, machine)\n",
        "    problem = _ask_to_end(session, machine)\n    while True:\n",
        "launching stale_list",
    ),
    Mutant(
        "absent once is gone",
        "ending",
        "ABSENT_S: Final = 60.0",
        "ABSENT_S: Final = 0.0",
        "launching stale_list",
    ),
    Mutant(
        "a list that fails is absence",
        "ending",
        "        return True, error.message\n",
        "        return False, error.message\n",
        "launching list_that_fails",
    ),
    Mutant(
        "a bad machine is waited for",
        "booting",
        "        if instance.status.is_broken:\n",
        "        if False:\n",
        "launching ready_is_ended_soon",
    ),
    Mutant(
        "unhealthy is waited for",
        "booting",
        "now_s - self._unhealthy_since_s >= UNHEALTHY_GRACE_S",
        "now_s < 0",
        "launching ready_is_ended_soon",
    ),
    Mutant(
        "a failed list is an empty one",
        "survey",
        "        return _from_ledger(session, error)\n",
        "        listed = []\n",
        "survey could_not_ask",
    ),
    Mutant(
        "reap does not wait for fresh orders",
        "survey",
        "        if not fresh:\n",
        "        if True:\n",
        "kills just_died",
    ),
    Mutant(
        "reap takes jobs from their launcher",
        "survey",
        "    is_watched = _is_watched(session, job.job)\n",
        "    is_watched = False\n",
        "survey watched_job",
    ),
    Mutant(
        "reap keeps what is past its limits",
        "survey",
        '        overdue = "it is past its limits"\n',
        '        overdue = ""\n',
        "survey until_its_limits",
    ),
    Mutant(
        "every job is taken to have its launcher",
        "survey",
        "    is_watched = _is_watched(session, job.job)\n",
        "    is_watched = True\n",
        "kills any_step_is",
    ),
    Mutant(
        "machines of others are ours",
        "naming",
        'r"aquachat-([0-9a-f]{8})-',
        'r".*aquachat-([0-9a-f]{8})-',
        "survey other_people",
    ),
    Mutant(
        "one failure ends reap",
        "survey",
        "            failures.append(error)\n",
        "            raise\n",
        "survey does_not_save",
    ),
    Mutant(
        "the SSH key is not checked",
        "lambda_labs",
        "if spec.ssh_key_name not in names:",
        "if False:",
        "lambda_labs missing_ssh_key",
    ),
    Mutant(
        "one of several keys is taken",
        "lambda_labs",
        "if len(names) == 1:",
        "if names:",
        "lambda_labs missing_ssh_key",
    ),
    Mutant(
        "all keys are sent",
        "lambda_labs",
        '"ssh_key_names": [spec.ssh_key_name]',
        '"ssh_key_names": [spec.ssh_key_name, "other"]',
        "launching makes_one_machine",
    ),
    Mutant(
        "quantity is sent",
        "lambda_labs",
        '        "name": spec.name,\n',
        '        "name": spec.name,\n        "quantity": 1,\n',
        "lambda_labs no_quantity",
    ),
    Mutant(
        "no tags",
        "lambda_labs",
        "for key, value in spec.tags.items()]",
        "for key, value in ()]",
        "lambda_labs the_tags",
    ),
    Mutant(
        "several ids are one",
        "lambda_labs",
        "or len(ids) != 1 ",
        "",
        "launching several",
    ),
    Mutant(
        "an unknown status is an end",
        "lambda_labs",
        "_STATUS.get(raw_status.lower(), InstanceStatus.UNKNOWN)",
        "_STATUS.get(raw_status.lower(), InstanceStatus.TERMINATED)",
        "lambda_labs unknown_words",
    ),
    Mutant(
        "a list without data is empty",
        "payload",
        "    if not isinstance(value, list):\n        raise unreadable(service, what)\n",
        "    if not isinstance(value, list):\n        return []\n",
        "lambda_labs never_an_empty",
    ),
    Mutant(
        "a lost route is an end",
        "hyperbolic",
        "            raise moved(error) from error\n\n\ndef client_of",
        "            raise\n\n\ndef client_of",
        "hyperbolic proves_nothing",
    ),
    Mutant(
        "no label",
        "hyperbolic",
        '"label": spec.name,',
        '"label": "aquachat",',
        "hyperbolic by_its_label",
    ),
    Mutant(
        "the balance is not checked",
        "hyperbolic",
        "if balance < needed or balance <= 0:",
        "if False:",
        "hyperbolic balance",
    ),
    Mutant(
        "the supplier is ignored",
        "hyperbolic",
        "        if want.supplier:\n",
        "        if False:\n",
        "hyperbolic supplier",
    ),
    Mutant(
        "cents are dollars",
        "base",
        "return amount / 100 if",
        "return amount if",
        "hyperbolic cents",
    ),
    Mutant(
        "no price is a low price",
        "choosing",
        "return price is not None and price <= want.max_price_usd_per_hour",
        "return price is None or price <= want.max_price_usd_per_hour",
        "hyperbolic without_a_price",
    ),
    Mutant(
        "the price of the machine is not checked",
        "booting",
        "if most is not None and price is not None and price > most:",
        "if False:",
        "launching dearer",
    ),
    Mutant(
        "the cost limit is ignored",
        "limits",
        "hours = min(hours, float(left / price))",
        "pass",
        "limits overshoot",
    ),
    Mutant(
        "earlier machines are free",
        "limits",
        "*earlier, running = uses",
        "earlier, running = [], uses[-1]",
        "limits ended_count",
    ),
    Mutant(
        "polls are longer than asked",
        "watching",
        "next_s = min(now_s + poll_s, deadline_s)",
        "next_s = now_s + 4 * poll_s",
        "limits overshoot",
    ),
    Mutant(
        "the limits are read once",
        "watching",
        "        job = session.job(machine.job)\n        now_s",
        "        job = locals().get('job') or session.job(machine.job)\n        now_s",
        "limits changed_limits",
    ),
    Mutant(
        "a stopped job is ordered again",
        "session",
        "        if self.job(job).is_stopped:\n",
        "        if False:\n",
        "survey stopped_while",
    ),
    Mutant(
        "a time-out for each byte",
        "wire",
        "    timer.start()\n",
        "",
        "wire trickles",
    ),
    Mutant(
        "certificates are not checked",
        "wire",
        "context = ssl.create_default_context()",
        "context = ssl._create_unverified_context()",
        "wire not_trusted",
    ),
)
