# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash disable=SC1090,SC3043
#
# A stub in the place of OpenWrt: of its rc.common, functions.sh and procd.sh as much as our scripts call, the rest of which
# is to write down what is asked for. Usage: busybox ash openwrt.sh SCRIPT [ACTION].
# $RECORD is where it writes, $RUNNING are the instances that procd has, $UCI is /etc/config.

note() {
	echo "$*" >>"$RECORD"
}

for name in procd_open_service procd_open_instance procd_set_param procd_close_instance procd_kill \
	procd_send_signal procd_add_reload_trigger; do
	eval "$name() { note $name \"\$@\"; }"
done

procd_close_service() {
	service_triggers
	note procd_close_service
}

procd_running() {
	[ -n "$RUNNING" ] && case " $RUNNING " in *" ${2:-$RUNNING} "*) ;; *) false ;; esac
}

# As the real ones, for lines without spaces in values.
config_load() {
	local keyword first second section=
	sections=
	while read -r keyword first second _; do
		first="${first#\'}" first="${first%\'}" second="${second#\'}" second="${second%\'}"
		case "$keyword" in
		config)
			section="${second:-anonymous}"
			sections="$sections $section"
			eval "type_$section=\$first"
			;;
		option) eval "option_${section}_$first=\$second" ;;
		list) eval "list_${section}_$first=\"\${list_${section}_$first-} \$second\"" ;;
		esac
	done <"$UCI/$1"
}

config_get() {
	eval "$1=\"\${option_${2}_$3:-\${4-}}\""
}

config_list_foreach() {
	local value values
	eval "values=\"\${list_${1}_$2-}\""
	for value in $values; do
		"$3" "$value"
	done
}

config_foreach() {
	local name="$1" wanted="$2" section type
	shift 2
	for section in $sections; do
		eval "type=\"\$type_$section\""
		[ "$type" != "$wanted" ] || "$name" "$section" "$@"
	done
}

start() {
	procd_open_service
	start_service
	procd_close_service
}

stop() {
	stop_service
	note stop
}

. "$1"
[ -z "$USE_PROCD" ] || case "$2" in
start) start ;;
stop) stop ;;
reload) reload_service ;;
shutdown) shutdown ;;
esac
