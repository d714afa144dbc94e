"""Writes Grafana's dashboards into dashboards/ beside this file. What a panel asks for stands here, how it looks stands once.

usage: dashboards.py            writes the files
       dashboards.py --check    fails if a file is not what would be written
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24

# Every series of ours has a job of Prometheus; those of a run have the run's job too.
ANY = 'job=~"$job"'
RUN = 'job=~"$job", qa_job=~"$qa_job"'
SERVER = "server_address, server_port"
SERVER_NAME = "{{server_address}}:{{server_port}}"
RATE = "$__rate_interval"
DONE = 'qa_outcome=~"completed|short"'


def rate(metric, labels=ANY, by=""):
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({metric}{{{labels}}}[{RATE}]))"


def grown(metric, labels=ANY, by=""):
    """What a counter grew by in the time that is shown."""
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (increase({metric}{{{labels}}}[$__range]))"


def quantiles(metric, labels=ANY, by="", legend="", shares=(0.5, 0.95, 0.99)):
    by = f"le, {by}" if by else "le"
    legend = f"{legend} " if legend else ""
    return [
        (f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, by)})", f"{legend}p{round(share * 100)}")
        for share in shares
    ]


def panel(kind, title, about, queries, unit="short", width=8, height=8, decimals=None, instant=False, **more):
    """One panel; each query is a text and its legend."""
    defaults = {"unit": unit, "color": {"mode": "palette-classic"}, "custom": {}, "mappings": []}
    defaults["thresholds"] = {"mode": "absolute", "steps": more.pop("steps", [{"color": "green", "value": None}])}
    for name in ("min", "max", "noValue"):
        if name in more:
            defaults[name] = more.pop(name)
    if decimals is not None:
        defaults["decimals"] = decimals
    defaults["mappings"] = more.pop("mappings", [])
    targets = []
    for index, (expression, legend) in enumerate(queries):
        target = {"refId": chr(ord("A") + index), "datasource": SOURCE, "editorMode": "code", "expr": expression}
        target["legendFormat"] = legend or "__auto"
        if instant:
            target |= {"instant": True, "range": False, "format": "table" if kind == "table" else "time_series"}
        else:
            # Steps of a minute at least, so that a rate spans several answers of a slow model.
            target |= {"instant": False, "range": True, "interval": "1m" if RATE in expression else ""}
        targets.append(target)
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
        "options": {},
        "targets": targets,
    } | more


def series(title, about, queries, unit="short", stacked=False, **more):
    shown = panel("timeseries", title, about, queries, unit, **({"min": 0} | more))
    shown["fieldConfig"]["defaults"]["custom"] = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    shown["options"] = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return shown


def stat(title, about, queries, unit="short", width=4, height=4, **more):
    colored = "steps" in more or "mappings" in more
    shown = panel("stat", title, about, queries, unit, width, height, **more)
    shown["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
    shown["options"] = {
        "colorMode": "background" if colored else "value",
        "graphMode": "none" if colored or more.get("instant") else "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    }
    return shown


def timeline(title, about, queries, words, width=12, height=6):
    """0 and 1 over time, as words."""
    values = {str(value): {"text": word, "color": color, "index": value} for value, (word, color) in enumerate(words)}
    shown = panel("state-timeline", title, about, queries, "none", width, height,
                  mappings=[{"type": "value", "options": values}])  # fmt: skip
    shown["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
    shown["fieldConfig"]["defaults"]["custom"] = {"fillOpacity": 80, "lineWidth": 0}
    shown["options"] = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "tooltip": {"mode": "single"},
    }
    return shown


def bars(title, about, queries, unit="short", width=8, height=8):
    shown = panel("bargauge", title, about, queries, unit, width, height, decimals=0, instant=True, min=0)
    shown["options"] = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
        "valueMode": "color",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return shown


def table(title, about, columns, width=12, height=8):
    """One line for each server; a column is its name, query, unit."""
    queries = [(expression, "") for _, expression, _ in columns]
    shown = panel("table", title, about, queries, width=width, height=height, instant=True)
    letters = [f"Value #{chr(ord('A') + index)}" for index in range(len(columns))]
    names = dict(zip(letters, (name for name, _, _ in columns), strict=True))
    shown["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for name, _, unit in columns
    ]
    shown["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {},
                "renameByName": names | {"server_address": "server", "server_port": "port"},
            },
        },
    ]
    shown["options"] = {"showHeader": True, "cellHeight": "sm"}
    return shown


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": WIDTH, "h": 1}}


def place(panels):
    """Gives every panel a number and a place: from left to right, then a new line."""
    x = y = line = 0
    for number, one in enumerate(panels, 1):
        size = one["gridPos"]
        if x + size["w"] > WIDTH:
            x, y, line = 0, y + line, 0
        one["id"] = number
        one["gridPos"] = {"x": x, "y": y, "w": size["w"], "h": size["h"]}
        x, line = x + size["w"], max(line, size["h"])
    return panels


def choice(name, label, query):
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }


def dashboard(uid, title, about, panels, period="now-6h"):
    source = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"}
    source |= {"current": {}, "options": [], "regex": "", "refresh": 1, "multi": False, "includeAll": False, "hide": 0}
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["qa-fleet"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": period, "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [
            {"type": "dashboards", "title": "qa-fleet", "tags": ["qa-fleet"], "asDropdown": False,
             "includeVars": True, "keepTime": True, "targetBlank": False, "icon": "external link", "url": ""},
        ],
        "templating": {
            "list": [
                source,
                choice("job", "Scrape job", 'label_values({__name__=~"qa_job_chunks|qa_worker_slots"}, job)'),
                choice("qa_job", "Job", 'label_values(qa_job_chunks{job=~"$job"}, qa_job)'),
            ]
        },
        "panels": place(panels),
    }  # fmt: skip


def per_minute(text):
    return f"60 * {text}"


RED_ABOVE_0 = [{"color": "green", "value": None}, {"color": "red", "value": 1}]
YES_NO = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
CALLS = "gen_ai_client_operation_duration_seconds"
FAILED_CALLS = ANY + ', error_type!=""'

fleet = dashboard("qa-fleet", "qa-fleet: fleet", "What all workers, servers and queues do.", [
    row("Now"),
    stat("Chunks per minute", "Finished chunks, over the last minutes.",
         [(per_minute(rate("qa_chunks_total", f"{RUN}, {DONE}")), "")], decimals=1),
    stat("Tokens per second", "Tokens that models wrote, of all jobs.",
         [(rate("gen_ai_client_token_usage_sum", f'{ANY}, gen_ai_token_type="output"'), "")], decimals=1),
    stat("Slots busy", "Share of all workers' slots that work. Low while tasks are queued: the queue or the coordinator is the brake.",
         [(f'sum (qa_worker_slots{{{ANY}, qa_state="busy"}}) / sum (qa_worker_slots{{{ANY}}})', "")], "percentunit", decimals=0),
    stat("LLM servers down", "Servers that do not answer their worker.",
         [(f"count (min by ({SERVER}) (qa_worker_server_up{{{ANY}}}) == 0) or vector(0)", "")], steps=RED_ABOVE_0),
    stat("Tasks queued", "In the job's pool, of all jobs there.",
         [(f'max by (qa_job) (qa_queue_tasks{{{RUN}, qa_state="queued"}})', "{{qa_job}}")]),
    stat("Queue age", "Time since a result last came while tasks were published.",
         [(f"max (qa_queue_age_seconds{{{RUN}}})", "")], "s", decimals=0,
         steps=[{"color": "green", "value": None}, {"color": "orange", "value": 300}, {"color": "red", "value": 900}]),
    row("Throughput"),
    series("Chunks per minute", "Finished chunks per job.",
           [(per_minute(rate("qa_chunks_total", f"{RUN}, {DONE}", "qa_job")), "{{qa_job}}")]),
    series("Tokens per second", "Read and written tokens, of all jobs.",
           [(rate("gen_ai_client_token_usage_sum", ANY, "gen_ai_token_type"), "{{gen_ai_token_type}}")]),
    series("Tokens per call", "Median and high values of read and written tokens.",
           quantiles("gen_ai_client_token_usage", ANY, "gen_ai_token_type", "{{gen_ai_token_type}}", (0.5, 0.95))),
    row("Slots and LLM servers"),
    table("LLM servers now", "Each server as its workers see it.", [
        ("up", f"min by ({SERVER}) (qa_worker_server_up{{{ANY}}})", "bool_yes_no"),
        ("busy", f'sum by ({SERVER}) (qa_worker_slots{{{ANY}, qa_state="busy"}})', "short"),
        ("free", f'sum by ({SERVER}) (qa_worker_slots{{{ANY}, qa_state="free"}})', "short"),
        ("tokens/s", f"sum by ({SERVER}) (qa_worker_server_speed_per_second{{{ANY}}})", "short"),
    ]),
    timeline("LLM servers up", "1 while a server answers its worker.",
             [(f"min by ({SERVER}) (qa_worker_server_up{{{ANY}}})", SERVER_NAME)],
             [("down", "red"), ("up", "green")], height=8),
    series("Slots per server", "Busy and free slots of each server.",
           [(f"sum by ({SERVER}, qa_state) (qa_worker_slots{{{ANY}}})", f"{SERVER_NAME} {{{{qa_state}}}}")], stacked=True),
    series("Slots of serving servers", "Busy and free slots that a job can use, as its coordinator sees them.",
           [(f"max by (qa_job, qa_state) (qa_fleet_slots{{{RUN}}})", "{{qa_job}} {{qa_state}}")], stacked=True),
    series("Servers that a coordinator sees", "Serving the job's model, or not (other).",
           [(f"max by (qa_job, qa_state) (qa_fleet_servers{{{RUN}}})", "{{qa_job}} {{qa_state}}")]),
    series("Speed per server", "Generated tokens per second over the last 5 minutes, as the server's worker tells.",
           [(f"sum by ({SERVER}) (qa_worker_server_speed_per_second{{{ANY}}})", SERVER_NAME)], width=12),
    series("Model calls per minute", "Also the failed ones.",
           [(per_minute(rate(f"{CALLS}_count", ANY, f"{SERVER}, gen_ai_request_model")), SERVER_NAME + " {{gen_ai_request_model}}")],
           width=12),
    row("Queue"),
    series("Tasks in the pool", "Queued and running tasks of the job's pool, of all jobs there.",
           [(f"max by (qa_job, qa_state) (qa_queue_tasks{{{RUN}}})", "{{qa_job}} {{qa_state}}")], width=12),
    series("Queue age", "Time since a result last came while tasks were published; a queue that is stuck grows old.",
           [(f"max by (qa_job) (qa_queue_age_seconds{{{RUN}}})", "{{qa_job}}")], "s", width=12),
    series("Stalled", "Tasks are out and slots are free, and nothing is delivered and no result comes.",
           [(f"max by (qa_job) (qa_job_stalled_seconds{{{RUN}}})", "{{qa_job}}")], "s", width=12),
    row("Model calls"),
    series("Duration of model calls: median", "Per server and model, also of the failed ones.",
           quantiles(CALLS, ANY, f"{SERVER}, gen_ai_request_model", SERVER_NAME + " {{gen_ai_request_model}}", (0.5,)), "s"),
    series("Duration of model calls: p95", "Per server and model, also of the failed ones.",
           quantiles(CALLS, ANY, f"{SERVER}, gen_ai_request_model", SERVER_NAME + " {{gen_ai_request_model}}", (0.95,)), "s"),
    series("Time of a task in its slot", "With all its model calls.",
           quantiles("messaging_process_duration_seconds", f'{ANY}, qa_outcome=~"completed|failed"'), "s"),
])  # fmt: skip

run = dashboard("qa-run", "qa-fleet: run", "How far a job is, what fails, what it costs.", [
    row("Now"),
    stat("Finished", "Completed and failed chunks of all chunks.",
         [(f'sum (qa_job_chunks{{{RUN}, qa_state=~"completed|failed"}}) / sum (qa_job_chunks{{{RUN}}})', "")], "percentunit", decimals=1),
    stat("Time left", "At the rate of the last minutes; nothing without a rate.",
         [(f"max (qa_job_eta_seconds{{{RUN}}})", "")], "s", noValue="unknown"),
    stat("Pairs", "In all completed chunks.", [(f"sum (qa_job_pairs{{{RUN}}})", "")], decimals=0),
    stat("Failed chunks", "See qa-coordinator failures.", [(f'sum (qa_job_chunks{{{RUN}, qa_state="failed"}})', "")], steps=RED_ABOVE_0),
    stat("Documents open", "Neither done nor broken.", [(f'sum (qa_job_documents{{{RUN}, qa_state="open"}})', "")]),
    stat("Cost of all runs", "Nothing where nothing costs anything.", [(f"sum (qa_job_cost{{{RUN}}})", "")], "currencyUSD", decimals=2, noValue="none"),
    row("Progress"),
    series("Chunks", "Of the job, per state.",
           [(f"sum by (qa_state) (qa_job_chunks{{{RUN}}})", "{{qa_state}}")], stacked=True, width=12),
    series("Documents", "Of the job, per state.",
           [(f"sum by (qa_state) (qa_job_documents{{{RUN}}})", "{{qa_state}}")], stacked=True, width=12),
    series("Time left", "At the rate of the last minutes.", [(f"max by (qa_job) (qa_job_eta_seconds{{{RUN}}})", "{{qa_job}}")], "s"),
    series("Results per minute", "By outcome; short ones have fewer pairs than asked for.",
           [(per_minute(rate("qa_chunks_total", RUN, "qa_outcome")), "{{qa_outcome}}")]),
    series("Tasks published per minute", "A job that stops publishing while chunks wait has full queues.",
           [(per_minute(rate("qa_tasks_published_total", RUN, "qa_job")), "{{qa_job}}")]),
    row("Failures"),
    bars("Failed chunks by reason", "In the time that is shown.",
         [(grown("qa_chunks_total", f'{RUN}, qa_outcome="failed"', "qa_reason"), "{{qa_reason}}")], width=12),
    series("Failed chunks per minute by reason", "Results that were taken as failed.",
           [(per_minute(rate("qa_chunks_total", f'{RUN}, qa_outcome="failed"', "qa_reason")), "{{qa_reason}}")], width=12),
    row("Pairs, tokens, cost"),
    series("Pairs", "In all completed chunks of the job.", [(f"max by (qa_job) (qa_job_pairs{{{RUN}}})", "{{qa_job}}")]),
    series("Pairs per minute", "As they are taken.", [(per_minute(rate("qa_pairs_total", RUN, "qa_job")), "{{qa_job}}")]),
    series("Pairs per finished chunk", "Falls when a model gives fewer pairs than asked for.",
           [(f'{rate("qa_pairs_total", RUN, "qa_job")} / {rate("qa_chunks_total", f"{RUN}, {DONE}", "qa_job")}', "{{qa_job}}")]),
    bars("Tokens in the time that is shown", "Read and written by model calls of all jobs: workers do not tell jobs apart.",
         [(grown("gen_ai_client_token_usage_sum", ANY, "gen_ai_token_type"), "{{gen_ai_token_type}}")]),
    series("Tokens per minute by model", "Of all jobs: workers do not tell jobs apart.",
           [(per_minute(rate("gen_ai_client_token_usage_sum", ANY, "gen_ai_request_model, gen_ai_token_type")),
             "{{gen_ai_request_model}} {{gen_ai_token_type}}")]),
    series("Cost", "Of all runs of the job.", [(f"max by (qa_job) (qa_job_cost{{{RUN}}})", "{{qa_job}}")], "currencyUSD"),
])  # fmt: skip

reliability = dashboard("qa-reliability", "qa-fleet: reliability", "What goes wrong and is made good, and how the disks are.", [
    row("In the time that is shown"),
    stat("Queue server", "Whether every coordinator reaches it.", [(f"min (qa_job_connected{{{RUN}}})", "")], "none", steps=YES_NO,
         mappings=[{"type": "value", "options": {"0": {"text": "unreachable", "index": 0}, "1": {"text": "connected", "index": 1}}}]),
    stat("Redeliveries", "Tasks that came a second time or later: their worker died, or was away too long.",
         [(grown("qa_worker_redeliveries_total"), "")], decimals=0, instant=True),
    stat("Retries", "Model calls made again for the same chunk.", [(grown("qa_worker_retries_total"), "")], decimals=0, instant=True),
    stat("Republished", "Tasks that the queue had lost.", [(grown("qa_tasks_republished_total", RUN), "")], decimals=0, instant=True, steps=RED_ABOVE_0),
    stat("Ignored results", "Second answers and those that nobody waits for.",
         [(grown("qa_chunks_total", f'{RUN}, qa_outcome="ignored"') + " or vector(0)", "")], decimals=0, instant=True),
    stat("Failed model calls", "Share of all calls.",
         [(f'({grown(f"{CALLS}_count", FAILED_CALLS)} or vector(0)) / {grown(f"{CALLS}_count")}', "")], "percentunit", decimals=1, instant=True),
    row("Tasks"),
    series("Redeliveries per minute", "By worker.", [(per_minute(rate("qa_worker_redeliveries_total", ANY, "instance")), "{{instance}}")]),
    series("Republished tasks per minute", "Lost by the queue and published again.",
           [(per_minute(rate("qa_tasks_republished_total", RUN, "qa_job")), "{{qa_job}}")]),
    series("Ignored results per minute", "Second answers and those that nobody waits for.",
           [(per_minute(rate("qa_chunks_total", f'{RUN}, qa_outcome="ignored"', "qa_job")), "{{qa_job}}")]),
    series("Second rounds per minute", "Chunks that seemed stuck and were given to a free server too: started, won (answered first there) or lost.",
           [(per_minute(rate("qa_speculation_total", RUN, "qa_outcome")), "{{qa_outcome}}")]),
    series("Tasks per minute by what became of them", "Completed, failed, handed back, discarded, or answered before.",
           [(per_minute(rate("messaging_process_duration_seconds_count", ANY, "qa_outcome")), "{{qa_outcome}}")]),
    series("Wait in the queue", "From a task's publication to its first delivery.", quantiles("qa_queue_wait_duration_seconds"), "s"),
    timeline("Coordinators and the queue server", "Whether a coordinator reaches it.",
             [(f"min by (qa_job) (qa_job_connected{{{RUN}}})", "{{qa_job}}")], [("unreachable", "red"), ("connected", "green")], width=8, height=8),
    row("Model calls"),
    series("Retries per minute by reason", "By what was wrong with the call before.",
           [(per_minute(rate("qa_worker_retries_total", ANY, "qa_reason")), "{{qa_reason}}")]),
    series("Failed calls per minute by error", "error.type of the calls that failed.",
           [(per_minute(rate(f"{CALLS}_count", FAILED_CALLS, "error_type")), "{{error_type}}")]),
    series("Share of failed calls per server", "Of all its calls.",
           [(f'{rate(f"{CALLS}_count", FAILED_CALLS, SERVER)} / {rate(f"{CALLS}_count", ANY, SERVER)}', SERVER_NAME)], "percentunit", max=1),
    row("Files"),
    series("Time of a journal sync", "To make a group of results durable.", quantiles("qa_journal_sync_duration_seconds"), "s", width=6),
    series("Written to journals", "Bytes per second, by coordinator.", [(rate("qa_journal_written_bytes_total", ANY, "instance"), "{{instance}}")], "Bps", width=6),
    series("Time of a snapshot", "To replace a document's Q&A file.", quantiles("qa_snapshot_duration_seconds"), "s", width=6),
    series("Written to Q&A files", "Bytes per second, by coordinator.", [(rate("qa_snapshot_written_bytes_total", ANY, "instance"), "{{instance}}")], "Bps", width=6),
])  # fmt: skip

stale = []
for name, data in {"fleet": fleet, "run": run, "reliability": reliability}.items():
    path, text = FOLDER / f"{name}.json", json.dumps(data, indent=2) + "\n"
    if "--check" not in sys.argv[1:]:
        path.write_text(text)
    elif not path.exists() or path.read_text() != text:
        stale.append(f"{path.name} is not what deploy/grafana/dashboards.py writes; run it")
sys.exit("\n".join(stale) or 0)
