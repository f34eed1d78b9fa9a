# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: a gateway, its customers, an SSL-enforcement stage, a bypass router and servers.

Each is a network namespace; the gateway and the customers run real charons. The quickstart and
the integration tests use the same lab. Everything it makes lives in namespaces with one prefix
and in one state directory, and Lab.down() removes both.
"""
