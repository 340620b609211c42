"""Rounds at one desk: asleep, awake, asleep, with a question at every phase."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import psutil

from tests.desk.sleep import SLEEP_LIMIT_S, asleep, front_state, tasks
from tests.desk.story import Answer, NoEnd, Story, until
from tests.soak.report import Report

MODEL = "soak/model"
ENDING = "ending"  # asleep, while a control plane still ends
WAKE_S = 6.0  # from the first sign of a wake: most come into it
IDLES_OUT = 0.25  # of all times that the model has to sleep; that takes longer than by hand
AIMS: Mapping[str, float] = {"awake": 4.0, "falling-asleep": 3.0, "asleep": 0.8}
"""Where the last question of a round is aimed: at a moment within so many seconds of the beginning of a state. Once the
model sleeps, the control plane is awake for three at least, then falling asleep for three; then its task ends."""


def phase_of(story: Story) -> str:
    """The state that all agree on, and whether a task still ends in it."""
    state = front_state(story)
    return ENDING if state == "asleep" and tasks(story) else state


@dataclass
class Question:
    """One that was asked, and what came of it."""

    number: int  # in its round
    stream: bool
    phase: str  # in which it came
    began: float
    hops: list[int] = field(default_factory=list)
    answer: Answer = field(default_factory=Answer)
    took_s: float = 0.0

    @property
    def flawless(self) -> bool:
        """Whole, and nothing on the way to it that only a retry made up for."""
        return self.answer.whole and set(self.hops) <= {HTTPStatus.OK, HTTPStatus.TEMPORARY_REDIRECT}

    def __str__(self) -> str:
        kind, answer = "stream" if self.stream else "whole", self.answer
        came = "answered" if answer.whole else f"{answer.error} {answer.status} {answer.message} after {answer.text!r}"
        replies = ", ".join(map(str, self.hops))
        return f"question {self.number} ({kind}, {self.phase}): {came}, after {self.took_s:.1f} s; replies {replies}"


class Rounds:
    """``said`` is called after each. ``doing`` says what goes on, for whoever has to tell where it broke off."""

    def __init__(self, story: Story, report: Report, rng: random.Random, said: Callable[[], None]) -> None:
        self._story = story
        self._report = report
        self._rng = rng
        self._said = said
        self._aims = _aims(rng)
        self._first_line = 0
        self._asked: list[asyncio.Task[Question]] = []
        self.doing = "nothing yet"

    async def run(self, cycles: int) -> None:
        """Until so many control planes came and went."""
        while self._report.cycles < cycles:
            await self._round()
            self._count()
            self._said()

    def flaw(self, text: str) -> str:
        """With all that was told in this round."""
        return "\n      ".join([f"round {self._report.rounds + 1}: {text}", *self._story.tale.since(self._first_line)])

    async def _round(self) -> None:
        story, rng = self._story, self._rng
        self._first_line, self._asked = len(story.tale.lines), []
        self._ask()
        await self._until(lambda: front_state(story) != "asleep", "the control plane is woken")
        await asyncio.sleep(rng.uniform(0.0, WAKE_S))
        self._ask()
        await self._answers()
        await self._to_sleep()
        aim = next(self._aims)
        await self._until(lambda: front_state(story) == aim, f"the control plane is {aim}")
        await asyncio.sleep(rng.uniform(0.0, AIMS[aim]))
        self._ask()
        await self._answers()
        await self._to_sleep()
        self.doing = "all falls asleep"
        await asleep(story)

    def _ask(self) -> None:
        question = Question(
            len(self._asked) + 1, self._rng.random() < 0.5, phase_of(self._story), self._story.tale.clock()
        )
        self._report.phases[question.phase] += 1
        self._story.tale.tell(f"question {question.number} comes: {question.phase}")
        self._asked.append(asyncio.create_task(self._answered(question)))

    async def _answered(self, question: Question) -> Question:
        story = self._story
        try:
            question.answer = await story.ask(MODEL, stream=question.stream, hops=question.hops)
        except NoEnd as error:
            question.answer = Answer(error="no end", message=str(error))
        question.took_s = story.tale.clock() - question.began
        story.tale.tell(str(question))
        return question

    async def _answers(self) -> None:
        self.doing = f"{len(self._asked)} questions are answered"
        await asyncio.gather(*self._asked)

    async def _to_sleep(self) -> None:
        """By hand, or because nobody asks."""
        if self._rng.random() < IDLES_OUT:
            self._story.tale.tell("the model is left to idle out")
            return
        self.doing = "the model is put to sleep"
        await self._story.scale(MODEL, 0)

    async def _until(self, what: Callable[[], bool], name: str) -> None:
        self.doing = name
        await until(what, name, SLEEP_LIMIT_S, seen=lambda: f"It is {phase_of(self._story)}.")

    def _count(self) -> None:
        report, story = self._report, self._story
        questions = [task.result() for task in self._asked]
        report.flaws += [self.flaw(str(question)) for question in questions if not question.flawless]
        report.rounds += 1
        report.cycles = story.told.count("the control plane is gone")
        report.asked += len(questions)
        report.launched = len(story.launched(MODEL))
        report.replies.update(str(status) for question in questions for status in question.hops)
        report.slowest_s = max(report.slowest_s, *(question.took_s for question in questions))
        memory = psutil.Process().memory_info().rss >> 20
        report.memory_mb = (report.memory_mb[0] or memory, memory)


def _aims(rng: random.Random) -> Iterator[str]:
    """Each as often as the others, in any order."""
    while True:
        yield from rng.sample(list(AIMS), len(AIMS))
