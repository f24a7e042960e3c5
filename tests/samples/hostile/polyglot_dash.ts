<?xml version="1.0"?>
<!DOCTYPE MPD [<!ENTITY x SYSTEM "file://@CANARY_FILE@">]>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>@CANARY@/</BaseURL><Period>&x;</Period></MPD>
