"""Equal tuning: the same number of trials on the same validation data for every method (Optuna).

Each method, and each baseline that has options to choose, declares its options and their ranges
(:attr:`bench.method.Method.space`).  A trial is an ordinary cell with ordinary records, run with
seeds that no published cell uses and scored on its validation split only; the first trial is the
method's default.  Trials are asked for in rounds of :data:`TOGETHER` and the sampler's seed is
fixed, so that a stopped study asks for the same trials again and finds those that were run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench import BASELINES, METHODS, TASKS, registry_of
from bench.config import build, parse_spec
from bench.errors import BenchError
from bench.plan import Plan, kind_of
from bench.registry import EVERYTHING
from bench.store import Record, read_records
from bench.suites import Suite

if TYPE_CHECKING:
    import optuna

    from bench.baseline import Baseline
    from bench.cells import Cell
    from bench.method import Method
    from bench.runner import Summary

TOGETHER = 4  # trials of a method that are asked for before their scores are told
SAMPLER_SEED = 0
PUBLISHED_SEEDS = (0, 1, 2)  # what is chosen is run with these: no trial may have seen one
Run = Callable[[Plan], "Summary"]


@dataclass
class Study:
    """The trials of one method on one task.

    Attributes:
        method: registered name.
        given: options fixed by the user, in place of their defaults.
        direction: whether "max" or "min" of the score is best.
        space: what is varied, as :attr:`bench.method.Method.space` writes it.
        default: the values of the first trial.
        scores: mean validation score by specification, in order; ``None`` for a trial that failed.
        told: the specification of each trial, in order.
    """

    method: str
    given: Mapping[str, str]
    direction: str
    space: Sequence[tuple[Any, ...]]
    default: Mapping[str, Any]
    scores: dict[str, float | None] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = optuna.create_study(
            direction="maximize" if self.direction == "max" else "minimize",
            sampler=optuna.samplers.TPESampler(seed=SAMPLER_SEED, n_startup_trials=TOGETHER),
        )
        self.optuna.enqueue_trial(dict(self.default))

    @property
    def title(self) -> str:
        """Return the method with its given options, as written on the command line."""
        return self._written(self.given)

    def has(self, cell: Cell) -> bool:
        """Return whether ``cell`` may be one of its trials."""
        return cell.method == self.method and self.given.items() <= dict(cell.options).items()

    def ask(self, count: int) -> list[tuple[optuna.Trial, str]]:
        """Return the next trials and the specification of each."""
        return [(trial, self._spec(trial)) for trial in (self.optuna.ask() for _ in range(count))]

    def tell(self, trial: optuna.Trial, spec: str, score: float | None) -> None:
        """Record the score of a trial; ``None`` if it failed."""
        import optuna

        self.scores.setdefault(spec, score)
        self.told.append(spec)
        if score is None:
            self.optuna.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self.optuna.tell(trial, score)

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """Return the scores of the default, which is the first trial, and of the best one."""
        return next(iter(self.scores.values()), None), self.best[1] if self.best else None

    @property
    def failed(self) -> bool:
        """Return whether no trial finished."""
        return self.best is None

    @property
    def best(self) -> tuple[str, float] | None:
        """Return the best specification and its score; the earlier one of equals."""
        found = [(spec, score) for spec, score in self.scores.items() if score is not None]
        choose = max if self.direction == "max" else min
        return choose(found, key=lambda each: each[1]) if found else None

    def _spec(self, trial: optuna.Trial) -> str:
        options = dict(self.given)
        for name, *bounds, kind in self.space:
            value: Any
            if kind == "choice":
                value = trial.suggest_categorical(name, bounds)
            elif kind == "int":
                value = trial.suggest_int(name, *bounds)
            else:
                value = f"{trial.suggest_float(name, *bounds, log=kind == 'log'):.3g}"
            if str(value) != _text(self.default[name]):
                options[name] = str(value)
        return self._written(options)

    def _written(self, options: Mapping[str, Any]) -> str:
        return ":".join([self.method, *(f"{name}={value}" for name, value in options.items())])


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def tune(
    suite: Suite,
    *,
    trials: int,
    results: Path,
    plan: Callable[[Suite], Plan],
    run: Run,
) -> Iterator[tuple[str, list[Study], bool]]:
    """Tune the suite's methods on each of its tasks.

    Args:
        suite: methods (options given with one stay fixed), tasks, preset; its seeds are the
            trials' own.
        trials: number for each method and task, including the default.
        results: where the trials' records go.
        plan: turns a suite into cells.
        run: runs what is missing of a plan.

    Yields:
        As each task ends: its name, its studies and whether the run was interrupted, after which
        nothing follows.  A method that does not apply to the task has no study.

    Raises:
        BenchError: for too few trials, a method that declares nothing to tune, published seeds, or
            a missing package.
    """
    if trials < 1:
        raise BenchError(f"{trials} trials are too few", "at least 1, the default")
    published = sorted(set(suite.seeds) & set(PUBLISHED_SEEDS))
    if published:
        raise BenchError(
            f"seed {published[0]} is reserved for running the chosen options",
            "trials need other seeds, say --seeds 1000,1001",
        )
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError:
        hint = "python -m pip install 'distillation-bench[tune]'"
        raise BenchError("tuning needs the package optuna", hint) from None
    suites = {task: suite.model_copy(update={"tasks": (task,)}) for task in suite.tasks}
    # all of them before the first is run: a wrong name is refused at once
    asked = {task: [_study(spec, one) for spec in one.methods] for task, one in suites.items()}
    for task, studies in asked.items():
        ended, interrupted = _tuned(studies, suites[task], trials, results, plan, run)
        yield task, ended, interrupted
        if interrupted:
            return


def _tuned(
    studies: list[Study],
    suite: Suite,
    trials: int,
    results: Path,
    plan: Callable[[Suite], Plan],
    run: Run,
) -> tuple[list[Study], bool]:
    """Run the trials of one task; return its applicable studies and whether it was interrupted."""
    done = 0
    while done < trials:
        count = min(TOGETHER, trials - done)
        asked = [(study, *each) for study in studies for each in study.ask(count)]
        fresh = dict.fromkeys(spec for _, _, spec in asked)
        planned = plan(suite.model_copy(update={"methods": tuple(fresh)}))
        studies = [study for study in studies if any(map(study.has, planned.cells))]
        if run(planned).interrupted:
            return studies, True
        scores = _scores(planned, results)
        for study, trial, spec in asked:
            study.tell(trial, spec, scores.get(_label(spec, planned)))
        done += count
    return studies, False


def tunable(suite: Suite) -> Suite:
    """Return ``suite`` with "all" replaced by the methods and baselines that can be tuned."""
    methods: list[str] = []
    for spec in suite.methods:
        named = [spec]
        if spec == EVERYTHING:
            named = [name for name in (*METHODS.names(), *BASELINES.names()) if _space(name)]
        methods += named
    return suite.model_copy(update={"methods": tuple(dict.fromkeys(methods))})


def _study(spec: str, suite: Suite) -> Study:
    """Return the study of a method on the suite's one task."""
    name, given = parse_spec(spec)
    cls = _class(name)
    config = build(cls.Config, given, f"method '{name}'").model_dump(mode="json")
    space = [knob for knob in _space(name) if knob[0] not in given]
    if not space:
        raise BenchError(f"method '{name}' declares nothing to tune", "see Method.space")
    task = TASKS.get(parse_spec(suite.tasks[0])[0])
    return Study(name, given, task.direction, space, {knob[0]: config[knob[0]] for knob in space})


def _class(name: str) -> type[Method] | type[Baseline]:
    return registry_of(kind_of(name)).get(name)


def _space(name: str) -> Sequence[tuple[Any, ...]]:
    """Return what may be varied of a method or baseline; empty for nothing."""
    return _class(name).space


def _label(spec: str, plan: Plan) -> str:
    """Return the label of the cells of ``spec``; empty when it has none."""
    name, options = parse_spec(spec)
    return next(
        (
            cell.label
            for cell in plan.cells
            if cell.method == name and dict(cell.options) == options
        ),
        "",
    )


def _scores(plan: Plan, results: Path) -> dict[str, float]:
    """Return the mean validation score of each label whose cells all finished."""
    there = {record["key"]: record for record in read_records(results)[0]}
    by_label: dict[str, list[float | None]] = {}
    for cell in plan.cells:
        score = _validation(there.get(cell.key), cell.task_info["metric"])
        by_label.setdefault(cell.label, []).append(score)
    return {
        label: fmean(score for score in scores if score is not None)
        for label, scores in by_label.items()
        if None not in scores
    }


def _validation(record: Record | None, metric: str) -> float | None:
    if record is None or record["status"] != "ok":
        return None
    return float(record["metrics"]["best"]["validation"][metric])
