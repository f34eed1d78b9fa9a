# SPDX-License-Identifier: GPL-2.0-or-later
#
# TENANT_STEER_STRONGSWAN: what the plugin needs to be compiled out of strongSwan's tree.
#
# A plugin shares structures with the charon that loads it, so it must be compiled against the
# headers *and the config.h* of the very release that is installed. The headers come from
# strongSwan's source; its config.h is made here by its own ./configure, with the options that
# change layouts set as the installed libcharon has them. Those show in the exported symbols.
#
# Substitutes STRONGSWAN_SOURCE (headers), STRONGSWAN_CONFIG_H, STRONGSWAN_LIBDIR, STRONGSWAN_VERSION
# and STRONGSWAN_PLUGINDIR; without the plugin (--without-plugin) sets BUILD_PLUGIN to false.
AC_DEFUN([TENANT_STEER_STRONGSWAN], [
AC_ARG_WITH([plugin],
	[AS_HELP_STRING([--without-plugin], [do not build the charon plugin])],
	[], [with_plugin=yes])
AC_ARG_WITH([strongswan-source],
	[AS_HELP_STRING([--with-strongswan-source=DIR],
		[strongSwan's unpacked source, of the installed release (default: ../strongswan-VERSION or
		/usr/src/strongswan-VERSION)])],
	[], [with_strongswan_source=])
AC_ARG_WITH([strongswan-libdir],
	[AS_HELP_STRING([--with-strongswan-libdir=DIR],
		[where libcharon.so.0 is installed (default: the first of /usr/lib/ipsec,
		/usr/local/lib/ipsec, /usr/lib/strongswan, /usr/lib64/strongswan)])],
	[], [with_strongswan_libdir=])
AC_ARG_WITH([strongswan-plugindir],
	[AS_HELP_STRING([--with-strongswan-plugindir=DIR],
		[where the plugin goes (default: plugins below libcharon's directory)])],
	[], [with_strongswan_plugindir='${STRONGSWAN_LIBDIR}/plugins'])
AM_CONDITIONAL([BUILD_PLUGIN], [test "x$with_plugin" != xno])
AS_IF([test "x$with_plugin" != xno], [
	_TENANT_STEER_LIBDIR
	_TENANT_STEER_VERSION
	_TENANT_STEER_SOURCE
	_TENANT_STEER_CONFIG_H
])
AC_SUBST([STRONGSWAN_SOURCE])
AC_SUBST([STRONGSWAN_CONFIG_H])
AC_SUBST([STRONGSWAN_LIBDIR])
AC_SUBST([STRONGSWAN_VERSION])
AC_SUBST([STRONGSWAN_PLUGINDIR], [$with_strongswan_plugindir])
])

AC_DEFUN([_TENANT_STEER_LIBDIR], [
AC_MSG_CHECKING([where strongSwan is installed])
STRONGSWAN_LIBDIR=
for dir in $with_strongswan_libdir /usr/lib/ipsec /usr/local/lib/ipsec /usr/lib/strongswan /usr/lib64/strongswan; do
	AS_IF([test -z "$STRONGSWAN_LIBDIR" && test -e "$dir/libcharon.so.0"], [STRONGSWAN_LIBDIR=$dir])
done
AS_IF([test -z "$STRONGSWAN_LIBDIR"],
	[AC_MSG_ERROR([no libcharon.so.0 found. Install strongSwan (on Debian: apt-get install charon-systemd) or give --with-strongswan-libdir=DIR; --without-plugin builds steerd alone])])
AC_MSG_RESULT([$STRONGSWAN_LIBDIR])
])

# libcharon does not hold its release. swanctl does (--version would ask a running daemon instead).
AC_DEFUN([_TENANT_STEER_VERSION], [
AC_PATH_PROG([SWANCTL], [swanctl], [], [$PATH:/usr/sbin:/usr/local/sbin:/sbin])
AC_MSG_CHECKING([the installed strongSwan release])
STRONGSWAN_VERSION=
AS_IF([test -n "$SWANCTL"],
	[STRONGSWAN_VERSION=`"$SWANCTL" --help 2>&1 | $AWK '/^strongSwan/ { for (i = NF; i > 0; i--) if ($i ~ /^@<:@0-9@:>@+@<:@.@:>@@<:@0-9.@:>@+$/) { print $i; exit } }'`])
AS_IF([test -z "$STRONGSWAN_VERSION"],
	[AC_MSG_ERROR([cannot tell the installed strongSwan release: "swanctl --help" does not say it. On Debian: apt-get install strongswan-swanctl])])
AC_MSG_RESULT([$STRONGSWAN_VERSION])
AS_VERSION_COMPARE([$STRONGSWAN_VERSION], [5.9.8],
	[AC_MSG_ERROR([strongSwan $STRONGSWAN_VERSION is too old: the plugin supports 5.9.8 to 6.0.x])])
AS_VERSION_COMPARE([$STRONGSWAN_VERSION], [6.1], [],
	[AC_MSG_ERROR([strongSwan $STRONGSWAN_VERSION is too new: the plugin supports 5.9.8 to 6.0.x])],
	[AC_MSG_ERROR([strongSwan $STRONGSWAN_VERSION is too new: the plugin supports 5.9.8 to 6.0.x])])
])

AC_DEFUN([_TENANT_STEER_SOURCE], [
AC_MSG_CHECKING([for strongSwan's source])
STRONGSWAN_SOURCE=
for dir in ${with_strongswan_source:-"$srcdir/../strongswan-$STRONGSWAN_VERSION" "/usr/src/strongswan-$STRONGSWAN_VERSION"}; do
	AS_IF([test -z "$STRONGSWAN_SOURCE" && test -e "$dir/src/libcharon/daemon.h"],
		[STRONGSWAN_SOURCE=`cd "$dir" && pwd`])
done
AS_IF([test -z "$STRONGSWAN_SOURCE"],
	[AC_MSG_ERROR([strongSwan's source is not there: give --with-strongswan-source=DIR, the unpacked source of release $STRONGSWAN_VERSION. ./quickstart build fetches it; by hand on Debian: apt-get source --download-only --tar-only strongswan])])
AC_MSG_RESULT([$STRONGSWAN_SOURCE])
AC_MSG_CHECKING([that it is of the installed release])
strongswan_source_version=`sed -n 's/^AC@<:@_@:>@INIT(@<:@@<:@@:>@strongSwan@<:@@:>@@:>@, *@<:@@<:@@:>@\(@<:@0-9.@:>@*\).*/\1/p' "$STRONGSWAN_SOURCE/configure.ac"`
AS_IF([test "x$strongswan_source_version" != "x$STRONGSWAN_VERSION"],
	[AC_MSG_ERROR([the source in $STRONGSWAN_SOURCE is strongSwan ${strongswan_source_version:-of an unknown release}, but $STRONGSWAN_VERSION is installed. A plugin must be built from the release that loads it])])
AC_MSG_RESULT([yes])
])

# An option that changes structures, and a function that only exists with it.
AC_DEFUN([_TENANT_STEER_CONFIG_H], [
AC_CHECK_TOOL([NM], [nm])
AC_MSG_CHECKING([for options of the installed strongSwan that change layouts])
strongswan_symbols=`{ $NM -D "$STRONGSWAN_LIBDIR/libcharon.so.0"; $NM -D "$STRONGSWAN_LIBDIR/libstrongswan.so.0"; } 2>/dev/null`
AS_CASE([$strongswan_symbols], [*bus_create*], [],
	[AC_MSG_ERROR([cannot read the symbols of $STRONGSWAN_LIBDIR/libcharon.so.0; is nm (binutils) installed?])])
strongswan_options="--enable-ikev2"
AS_CASE([$strongswan_symbols], [*task_manager_v1_create*], [strongswan_options="$strongswan_options --enable-ikev1"],
	[strongswan_options="$strongswan_options --disable-ikev1"])
AS_CASE([$strongswan_symbols], [*mediation_manager_create*], [strongswan_options="$strongswan_options --enable-mediation"])
AS_CASE([$strongswan_symbols], [*leak_detective_create*], [strongswan_options="$strongswan_options --enable-leak-detective"])
AS_CASE([$strongswan_symbols], [*lock_profiler*], [strongswan_options="$strongswan_options --enable-lock-profiler"])
AC_MSG_RESULT([$strongswan_options])
AC_MSG_CHECKING([for a config.h with these options])
STRONGSWAN_CONFIG_H=`pwd`/strongswan-config/config.h
strongswan_stamp="$STRONGSWAN_SOURCE $STRONGSWAN_VERSION $strongswan_options"
AS_IF([test -e "$STRONGSWAN_CONFIG_H" && test "x`cat strongswan-config/stamp 2>/dev/null`" = "x$strongswan_stamp"],
	[AC_MSG_RESULT([made before])],
	[AC_MSG_RESULT([running strongSwan's own configure])
	AS_IF([test -x "$STRONGSWAN_SOURCE/configure"], [],
		[AC_MSG_ERROR([$STRONGSWAN_SOURCE has no configure script: unpack the release tarball, or run autoreconf -fi there])])
	rm -rf strongswan-config
	AS_MKDIR_P([strongswan-config])
	(cd strongswan-config && "$STRONGSWAN_SOURCE/configure" --disable-defaults --enable-charon \
		--enable-nonce $strongswan_options CC="$CC") >strongswan-config.log 2>&1 ||
		AC_MSG_ERROR([strongSwan's configure failed; see strongswan-config.log])
	AS_ECHO(["$strongswan_stamp"]) >strongswan-config/stamp])
])
