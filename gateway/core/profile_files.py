"""Profiles that are described by files: the store is brought into line with them."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.errors import ConfigError, KeyTaken
from gateway.core.registry import ProfileDraft, Registry


async def sync_profile_files(
    registry: Registry, drafts: Sequence[ProfileDraft]
) -> tuple[list[str], list[ConfigError]]:
    """Bring the store up to the profile files. Gives the names that changed, and what failed.

    A file that went away leaves its profile in the store: devices depend on it.
    """
    changed: list[str] = []
    errors: list[ConfigError] = []
    for draft in drafts:
        try:
            if await registry.save_profile(draft):
                changed.append(draft.profile.name)
        except KeyTaken:
            errors.append(ConfigError(f"{draft.profile.source}: {_taken(draft)}"))
    return changed, errors


def _taken(draft: ProfileDraft) -> str:
    """Whose key is another's, in words."""
    if draft.profile.chain is not None:
        return (
            "Device profile with such certificate already exists! Give [chain] another "
            "certificate, such as that of the intermediate authority, or remove the other profile."
        )
    return (
        "provision_key is already the key of another profile. Keys are unique: choose another, or "
        "leave it out to have one made."
    )
