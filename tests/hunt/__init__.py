# SPDX-License-Identifier: GPL-2.0-or-later
"""The leak hunt: tenants come, go and change places while everything around them breaks."""
