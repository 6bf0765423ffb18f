"""Media types by the ending of a name: one table, the same on every machine and in every version of Python.

``mimetypes`` reads the machine's files and grows with Python: 3.11 knows neither ``.webp`` nor ``.woff2``. Types are
those registered with IANA where there is one, else what browsers and nginx agree on.
"""

from __future__ import annotations

from collections.abc import Mapping

# A type and its endings; the first is the one that a file of this type gets.
_TABLE = """
application/atom+xml                atom
application/dash+xml                mpd
application/epub+zip                epub
application/geo+json                geojson
application/gpx+xml                 gpx
application/gzip                    gz tgz taz tz svgz
application/java-archive            jar
application/json                    json map topojson
application/ld+json                 jsonld
application/manifest+json           webmanifest
application/msword                  doc dot wiz
application/n-quads                 nq
application/n-triples               nt
application/octet-stream            bin a dll exe o obj so br z
application/oda                     oda
application/ogg                     ogx
application/pdf                     pdf
application/pkcs7-mime              p7c
application/postscript              ps ai eps
application/rss+xml                 rss
application/rtf                     rtf
application/toml                    toml
application/trig                    trig
application/vnd.android.package-archive  apk
application/vnd.apple.mpegurl       m3u m3u8
application/vnd.debian.binary-package  deb
application/vnd.google-earth.kml+xml  kml
application/vnd.google-earth.kmz    kmz
application/vnd.ms-excel            xls xlb
application/vnd.ms-fontobject       eot
application/vnd.ms-powerpoint       ppt pot ppa pps pwz
application/vnd.oasis.opendocument.graphics      odg
application/vnd.oasis.opendocument.presentation  odp
application/vnd.oasis.opendocument.spreadsheet   ods
application/vnd.oasis.opendocument.text          odt
application/vnd.openxmlformats-officedocument.presentationml.presentation  pptx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet          xlsx
application/vnd.openxmlformats-officedocument.wordprocessingml.document    docx
application/vnd.rar                 rar
application/vnd.sqlite3             sqlite sqlite3
application/wasm                    wasm
application/x-7z-compressed         7z
application/x-apple-diskimage       dmg
application/x-bcpio                 bcpio
application/x-bzip2                 bz2 tbz2
application/x-cpio                  cpio
application/x-csh                   csh
application/x-dvi                   dvi
application/x-gtar                  gtar
application/x-hdf                   hdf
application/x-hdf5                  h5
application/x-latex                 latex
application/x-mif                   mif
application/x-ndjson                ndjson jsonl
application/x-netcdf                cdf nc
application/x-pkcs12                p12 pfx
application/x-pn-realaudio          ram
application/x-python-code           pyc pyo
application/x-rpm                   rpm
application/x-sh                    sh
application/x-shar                  shar
application/x-shockwave-flash       swf
application/x-sv4cpio               sv4cpio
application/x-sv4crc                sv4crc
application/x-tar                   tar
application/x-tcl                   tcl
application/x-tex                   tex
application/x-texinfo               texi texinfo
application/x-troff                 roff t tr
application/x-troff-man             man
application/x-troff-me              me
application/x-troff-ms              ms
application/x-ustar                 ustar
application/x-wais-source           src
application/x-xz                    xz txz
application/xhtml+xml               xhtml xht
application/xml                     xsl rdf wsdl xpdl xsd
application/xml-dtd                 dtd
application/xslt+xml                xslt
application/yaml                    yaml yml
application/zip                     zip
application/zstd                    zst
audio/3gpp                          3gp 3gpp
audio/3gpp2                         3g2 3gpp2
audio/aac                           aac adts ass loas
audio/basic                         au snd
audio/flac                          flac
audio/midi                          mid midi
audio/mp4                           m4a
audio/mpeg                          mp3 mp2
audio/ogg                           ogg oga
audio/opus                          opus
audio/webm                          weba
audio/x-aiff                        aif aifc aiff
audio/x-pn-realaudio                ra
audio/x-wav                         wav
font/collection                     ttc
font/otf                            otf
font/ttf                            ttf
font/woff                           woff
font/woff2                          woff2
image/apng                          apng
image/avif                          avif
image/bmp                           bmp
image/gif                           gif
image/heic                          heic
image/heif                          heif
image/ief                           ief
image/jpeg                          jpg jpe jpeg jfif
image/jxl                           jxl
image/png                           png
image/svg+xml                       svg
image/tiff                          tiff tif
image/vnd.microsoft.icon            ico cur
image/webp                          webp
image/x-cmu-raster                  ras
image/x-portable-anymap             pnm
image/x-portable-bitmap             pbm
image/x-portable-graymap            pgm
image/x-portable-pixmap             ppm
image/x-rgb                         rgb
image/x-xbitmap                     xbm
image/x-xpixmap                     xpm
image/x-xwindowdump                 xwd
message/rfc822                      eml mht mhtml nws
model/gltf+json                     gltf
model/gltf-binary                   glb
text/cache-manifest                 appcache
text/calendar                       ics
text/css                            css
text/csv                            csv
text/html                           html htm shtml
text/javascript                     js mjs cjs
text/markdown                       md markdown
text/n3                             n3
text/plain                          txt bat c h ksh pl srt log conf ini
text/richtext                       rtx
text/tab-separated-values           tsv
text/turtle                         ttl
text/vcard                          vcf
text/vtt                            vtt
text/x-python                       py
text/x-rst                          rst
text/x-setext                       etx
text/x-sgml                         sgm sgml
text/xml                            xml opml
video/mp2t                          ts
video/mp4                           mp4 m4v
video/mpeg                          mpeg m1v mpa mpe mpg
video/ogg                           ogv
video/quicktime                     mov qt
video/webm                          webm
video/x-flv                         flv
video/x-matroska                    mkv
video/x-msvideo                     avi
video/x-sgi-movie                   movie
"""

_ROWS = {media_type: tuple(endings) for media_type, *endings in map(str.split, _TABLE.strip().splitlines())}

# What a file with this ending is; what is packed is the archive and not what is in it: ``data.csv.gz`` is no CSV.
TYPES: Mapping[str, str] = {ending: media_type for media_type, endings in _ROWS.items() for ending in endings}

# The ending of a file with this type. Types that share an ending with the one in the table are here too.
_ENDINGS = {media_type: endings[0] for media_type, endings in _ROWS.items()} | {
    "application/javascript": "js",
    "application/x-javascript": "js",
    "application/xml": "xml",
    "audio/wav": "wav",
    "image/x-icon": "ico",
    "text/x-vcard": "vcf",
}


def has_ending(name: str) -> bool:
    """Whether the last part of a path says with an ending what it is: ``v1.2/data`` and ``.profile`` do not."""
    return "." in name.rpartition("/")[2].lstrip(".")


def media_type_of_name(name: str) -> str | None:
    """By the ending of a path's last part, in any case of letters; ``None`` where that is not in the table."""
    return TYPES.get(name.rpartition(".")[2].lower()) if has_ending(name) else None


def ending_of_media_type(media_type: str) -> str:
    """The ending of a file with this type, without the dot: ``json`` for all JSON, ``bin`` for an unknown type."""
    essence = media_type.partition(";")[0].strip().lower()
    if essence.endswith("json"):
        return "json"
    return _ENDINGS.get(essence, "xml" if essence.endswith("+xml") else "bin")
