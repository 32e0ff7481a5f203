# SPDX-License-Identifier: GPL-2.0-or-later
"""What we tell Prometheus and how it is watched, judged by Prometheus' own programs.

promtool and node exporter are Debian's, fetched into build/ by make setup-check.
"""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric, parser

from kexecwatchd.checks.check import Answer
from kexecwatchd.metrics import FAMILIES, Textfile, collected, ended, exposition
from kexecwatchd.model import ImageName, Mode, State
from kexecwatchd.report import CheckResult, Status
from kexecwatchd.rounds import CHEAP
from tests.integration.harness import STALE, checked, status

SOURCE = Path(__file__).parents[2]
PROGRAMS = SOURCE / "build/prometheus"
MONITORING = SOURCE / "monitoring"
RULES = MONITORING / "kexecwatchd.rules.yml"
RULES_TEST = MONITORING / "kexecwatchd.rules.test.yml"
DASHBOARD = json.loads((MONITORING / "kexecwatchd.grafana.json").read_text())

LABELS = {family.name: set(family.labels) for family in FAMILIES}
VALUES: dict[str, set[str]] = {
    "image": set(ImageName),
    "state": set(State),
    "mode": set(Mode),
    "answer": set(Answer),
    "check": {check.name for check in CHEAP},
}
SCRAPED = {"job", "instance"}  # what Prometheus adds
VARIABLES = {"$instance": ".*"}  # the dashboard's, as "all"


def program(name: str) -> Path:
    path = PROGRAMS / name
    if not path.exists():
        pytest.skip(f"needs {path.relative_to(SOURCE)}: make setup-check")
    return path


def promtool(*arguments: str | Path, stdin: bytes | None = None) -> str:
    """What it says; it must be content."""
    command = [program("promtool"), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


# The metrics


@pytest.mark.parametrize("metrics", [collected(status()), collected(STALE), ended()])
def test_promtool_is_content_with_the_metrics(metrics: list[Metric]) -> None:
    assert promtool("check", "metrics", stdin=exposition(metrics)) == ""


@dataclass
class NodeExporter:
    """A real one, with nothing but its textfile collector."""

    directory: Path
    address: str

    def families(self) -> dict[str, Metric]:
        # Whatever proxy the environment names is not meant for this.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.address}/metrics") as answer:
            text = answer.read().decode()
        return {family.name: family for family in parser.text_string_to_metric_families(text)}

    def value(self, name: str) -> float:
        (sample,) = self.families()[name].samples
        return sample.value


@pytest.fixture
def node_exporter(tmp_path: Path) -> Iterator[NodeExporter]:
    directory = tmp_path / "textfiles"
    directory.mkdir()
    command: list[str | Path] = [
        program("prometheus-node-exporter"),
        "--web.listen-address=127.0.0.1:0",
        "--web.disable-exporter-metrics",
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={directory}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            log = []
            for line in process.stderr:
                log.append(line)
                if found := re.search(r'Listening on" address=(\S+)', line):
                    yield NodeExporter(directory, found[1])
                    break
            else:
                pytest.fail("".join(log))
        finally:
            process.kill()


def ours(families: dict[str, Metric]) -> dict[str, Any]:
    """{name: (help, samples)} of our metrics; the collector sorts and retypes them."""
    return {
        name: (
            family.documentation,
            sorted((s.name, sorted(s.labels.items()), s.value) for s in family.samples),
        )
        for name, family in families.items()
        if name.startswith("kexecwatch_")
    }


def test_node_exporter_serves_what_was_written_through_a_link(
    node_exporter: NodeExporter, tmp_path: Path
) -> None:
    path = tmp_path / "kexecwatchd.prom"
    link = node_exporter.directory / "kexecwatchd.prom"
    link.symlink_to(path)
    assert node_exporter.value("node_textfile_scrape_error") == 1, "there is no file yet"
    textfile = Textfile(path)
    textfile.write(status())
    text = path.read_text()
    written = {family.name: family for family in parser.text_string_to_metric_families(text)}
    served = node_exporter.families()
    assert ours(served) == ours(written)
    assert {f"{n}_total" if served[n].type == "counter" else n for n in ours(served)} == set(LABELS)
    assert served["node_textfile_scrape_error"].samples[0].value == 0
    textfile.end()
    assert ours(node_exporter.families()).keys() == {"kexecwatch_up"}
    assert node_exporter.value("kexecwatch_up") == 0


def test_node_exporter_does_not_take_the_types_that_we_do_without(
    node_exporter: NodeExporter,
) -> None:
    """And not the other way round: one such line costs the whole file."""
    path = node_exporter.directory / "kexecwatchd.prom"
    text = exposition(collected(status()))
    for kind in (b"info", b"stateset", b"unknown"):
        path.write_bytes(text.replace(b"kexecwatch_info gauge", b"kexecwatch_info " + kind))
        assert node_exporter.value("node_textfile_scrape_error") == 1
        assert ours(node_exporter.families()) == {}
    path.write_bytes(text)
    assert node_exporter.value("node_textfile_scrape_error") == 0


# The alert rules


def test_promtool_accepts_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


def test_each_alert_fires_when_it_must() -> None:
    assert "SUCCESS" in promtool("test", "rules", RULES_TEST)


def alerts() -> dict[str, str]:
    """The text of each alert."""
    _, *parts = re.split(r"^ +- alert: ", RULES.read_text(), flags=re.MULTILINE)
    return {part.split("\n", 1)[0]: part for part in parts}


def test_each_alert_is_tested() -> None:
    fired = set(re.findall(r'ALERTS\{alertname="(\w+)"', RULES_TEST.read_text()))
    assert fired == set(alerts())


@pytest.mark.parametrize("name", alerts())
def test_each_alert_says_how_bad_it_is_where_and_what_to_do(name: str) -> None:
    text = " ".join(alerts()[name].split())
    assert re.search(r"severity: (critical|warning) ", text)
    summary, description = re.split(r" description: ", text.split(" summary: ")[1])
    assert "$labels.instance" in summary
    assert "$labels.instance" in description
    assert '"kexecwatchctl ' in description or '"kexecwatchd --check-config"' in description


@pytest.mark.parametrize("name", alerts())
def test_each_alert_speaks_of_labels_that_there_are(name: str) -> None:
    known: set[str] = SCRAPED.union(*(LABELS[metric] for metric, _ in selectors(alerts()[name])))
    assert set(re.findall(r"\$labels\.(\w+)", alerts()[name])) <= known


# Rules and dashboard


def selectors(text: str) -> list[tuple[str, str]]:
    """Our metrics that a text names, each with what stands in braces behind it."""
    return re.findall(r"\b(kexecwatch_\w+)(?:\{([^}]*)\})?", text)


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DASHBOARD["panels"]
    return found


def expressions() -> list[str]:
    """Those of the dashboard."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


TEXTS = [
    *alerts().values(),
    RULES_TEST.read_text(),
    *expressions(),
    *(variable.get("definition", "") for variable in DASHBOARD["templating"]["list"]),
]


@pytest.mark.parametrize("text", TEXTS)
def test_only_metrics_and_labels_that_there_are_are_asked_for(text: str) -> None:
    for metric, braces in selectors(text):
        assert metric in LABELS
        for label, said in re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"', braces):
            assert label in LABELS[metric] | SCRAPED, metric
            if label in VALUES:
                assert set(said.split("|")) <= VALUES[label], metric


# The dashboard


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """It names no data source of ours, and its panels do not lie on each other."""
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert [panel["datasource"], *(t["datasource"] for t in panel["targets"])] == [
            chosen for _ in range(1 + len(panel["targets"]))
        ]
        assert panel["description"]
    (source,) = (v for v in DASHBOARD["templating"]["list"] if v["name"] == "datasource")
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        place = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert x + w <= 24
        assert not place & taken, panel["title"]
        taken |= place
    assert len({panel["id"] for panel in panels()}) == len(panels())


def replaced(expression: str) -> str:
    """As Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def as_yaml(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))  # JSON is YAML
    return path


def test_promtool_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": replaced(expression)}
        for number, expression in enumerate(expressions())
    ]
    path = as_yaml(tmp_path / "rules.yml", {"groups": [{"name": "all", "rules": rules}]})
    promtool("check", "rules", path)


def series(now: Status, instance: str) -> list[dict[str, str]]:
    """What Prometheus has of a machine, for promtool: the same for an hour and a half."""
    made = []
    for family in collected(now):
        for sample in family.samples:
            labels = {**sample.labels, "job": "node", "instance": instance}
            text = ",".join(f'{name}="{value}"' for name, value in labels.items())
            # Times go on with promtool's clock, which begins at 0.
            is_look = sample.name == "kexecwatch_last_look_timestamp_seconds"
            values = "0+60x90" if is_look else f"{sample.value}x90"
            made.append({"series": f"{sample.name}{{{text}}}", "values": values})
    return made


def answers() -> list[CheckResult]:
    """Of the cheap checks, each answer once."""
    given = zip(CHEAP, Answer, strict=False)
    return [checked(answer).model_copy(update={"name": check.name}) for check, answer in given]


def evaluate(path: Path, input_series: Sequence[Any], tests: Sequence[Any]) -> None:
    """Have promtool put questions to these series after an hour."""
    test = {
        "interval": "1m",
        "input_series": input_series,
        "promql_expr_test": [
            {"expr": expression, "eval_time": "60m", "exp_samples": samples}
            for expression, samples in tests
        ],
    }
    promtool("test", "rules", as_yaml(path, {"evaluation_interval": "1m", "tests": [test]}))


def test_each_panel_has_something_to_show(tmp_path: Path) -> None:
    good = status(degraded="").model_copy(update={"checks": answers()})
    input_series = [*series(good, "good"), *series(STALE, "stale")]
    evaluate(
        tmp_path / "panels.yml",
        input_series,
        [
            (f"count({replaced(expression)}) > bool 0", [value_of("", 1)])
            for expression in expressions()
        ],
    )


def asked_by(title: str) -> str:
    (panel,) = (panel for panel in panels() if panel["title"] == title)
    (target,) = panel["targets"]
    return replaced(target["expr"])


def test_the_dashboard_counts_the_fleet(tmp_path: Path) -> None:
    """Four machines: covered, not covered, ended, and one whose daemon hangs."""
    hangs = [
        {**one, "values": "0x90"} if "last_look" in one["series"] else one
        for one in series(status(), "hangs")
    ]
    ended = [{"series": 'kexecwatch_up{job="node",instance="ended"}', "values": "0x90"}]
    counts = {"Covered": 1, "Not covered": 1, "Not reporting": 2, "Held back": 3}
    by_machine = {"good": 1, "stale": 0, "hangs": -1, "ended": -1}
    evaluate(
        tmp_path / "fleet.yml",
        [*series(status(), "good"), *series(STALE, "stale"), *hangs, *ended],
        [
            *((asked_by(title), [value_of("", count)]) for title, count in counts.items()),
            (
                asked_by("Covered over time"),
                [value_of(f'job="node",instance="{i}"', value) for i, value in by_machine.items()],
            ),
        ],
    )


def test_the_dashboard_names_each_state(tmp_path: Path) -> None:
    (panel,) = (panel for panel in panels() if panel["title"] == "State of each image")
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    number = {value["text"]: int(key) for key, value in mapping["options"].items()}
    assert set(number) == set(State)
    input_series = [one for state in State for one in series(status(state=state), state)]
    labels = 'job="node",instance="{}",image="{}"'
    evaluate(
        tmp_path / "states.yml",
        input_series,
        [
            (
                asked_by(panel["title"]),
                [
                    value_of(labels.format(state, image), number[now])
                    for state in State
                    for image, now in (("crash", state), ("reboot", State.CURRENT))
                ],
            )
        ],
    )


def value_of(labels: str, value: float) -> dict[str, Any]:
    return {"labels": f"{{{labels}}}", "value": value}
