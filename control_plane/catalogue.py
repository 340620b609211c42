"""The models that can be asked for now: the ``models`` table, kept in memory for the hot path."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from control_plane.errors import ModelNotFound
from control_plane.model import InvalidModel, Model
from control_plane.ports import Clock, ModelRow, ModelStore

FRESH_S = 15.0  # a reconciler refreshes more often; without one, the table is read again after this
MISS_S = 1.0  # an unknown name reads the table at most this often: it may have been configured just now

log = logging.getLogger(__name__)


class Catalogue:
    """Answers from memory; reads the table when that is old, or does not know a name."""

    def __init__(self, store: ModelStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._read_at = float("-inf")
        self.models: Mapping[str, Model] = {}

    async def get(self, name: str) -> Model:
        """Raises ModelNotFound; Unavailable when the table must be read and cannot."""
        age = self._clock() - self._read_at
        if age > FRESH_S or (name not in self.models and age > MISS_S):
            self.refresh(await self._store.list())
        model = self.models.get(name)
        if model is None:
            known = ", ".join(sorted(self.models)) or "none"
            raise ModelNotFound(f"The model `{name}` does not exist. Configured models: {known}.", param="model")
        return model

    def refresh(self, rows: Iterable[ModelRow]) -> None:
        """Take these rows. One that cannot be used must not keep the others from running."""
        models = {}
        for row in rows:
            known = self.models.get(row.name)
            if known and (known.config, known.override) == (row.config, row.override):
                models[row.name] = known  # it was checked already
                continue
            try:
                models[row.name] = Model.parse(row.config, row.override)
            except InvalidModel as error:
                log.warning("model left out", extra={"model": row.name, "error": str(error)})
        self.models = models
        self._read_at = self._clock()
