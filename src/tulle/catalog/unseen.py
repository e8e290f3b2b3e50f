"""What one reader of the portal does not find, as pages ask for it: names in texts, problems of files with names.

Whether a reader is of a product's people is decided where a page has a text of that product, not for every product.
"""

from __future__ import annotations

from tulle.catalog.hidden_names import HiddenNames
from tulle.catalog.known import KnownProducts
from tulle.catalog.mesh_reader import Mesh
from tulle.catalog.query_log import repository_name
from tulle.errors import Problem
from tulle.gateway.apis import records
from tulle.gateway.apis.sight import Sight
from tulle.state.db import Database


class Unseen:
    """Asks who finds what for the pages of one mesh. Safe to share between threads."""

    def __init__(self, database: Database, sight: Sight, known: KnownProducts) -> None:
        self._database = database
        self._sight = sight
        self._known = known

    def of(self, user: str) -> HiddenNames:
        """What `user` does not find, for as long as one page takes."""
        apis = frozenset(api.name for api in records.followed(self._database))
        names = self._sight.hidden(user)
        logs = frozenset(repository_name(name) for name in names)
        return HiddenNames(names | logs, logs, apis, _Theirs(self._sight, self._known, user))

    def problems(self, mesh: Mesh, user: str, product: str = "") -> tuple[Problem, ...]:
        """What is wrong with files of one product or of all, as far as `user` may see what they declare."""
        if not mesh.problems:
            return ()
        hidden = self.of(user)
        return tuple(
            one
            for name, found in mesh.problems.items()
            for one in found
            if product in {"", name}
            and not hidden.is_their_file(one.place.file if one.place else "", name)
            and not hidden.are_in(f"{one.message} {one.hint or ''}", name)
        )


class _Theirs:
    """The applied products whose people a reader belongs to; each is decided when it is asked for, once."""

    def __init__(self, sight: Sight, known: KnownProducts, user: str) -> None:
        self._sight = sight
        self._known = known
        self._user = user
        self._decided: dict[str, bool] = {}

    def __contains__(self, product: object) -> bool:
        name = str(product)
        if not name:  # a text that is of no product
            return False
        if name not in self._decided:
            self._decided[name] = self._sight.belongs(self._user, name) and name in self._known.all()
        return self._decided[name]
