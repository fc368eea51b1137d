"""The HTTP door to `administration`: on a listener of its own, for whoever shows the admin token.

Knows no command; each is a POST to /COMMAND with a JSON request and a JSON answer.
"""

import hmac
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keyhierarchy.vault.administration import Administration, run_command


class AdminApp:
    def __init__(self, administration: Administration, admin_token: str) -> None:
        self._administration = administration
        self._token = admin_token
        self.starlette = Starlette(routes=[Route("/{command}", self.answer, methods=["POST"])])

    async def answer(self, request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return _json({"error": "the admin token is missing or wrong"}, HTTPStatus.UNAUTHORIZED)
        command = request.path_params["command"]
        try:
            answer = run_command(self._administration, command, await request.body())
        except ValueError as error:
            return _json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        return _json(answer, HTTPStatus.OK)


def _json(document: Any, status: HTTPStatus) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")
