"""Password hashes by argon2id, computed in a thread, a few at a time: each takes tens of megabytes."""

import asyncio

from argon2 import PasswordHasher

AT_ONCE = 2


class Argon2Passwords:
    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._places = asyncio.Semaphore(AT_ONCE)

    async def hash(self, password: str) -> str:
        async with self._places:
            return await asyncio.to_thread(self._hasher.hash, password)
