#!/bin/sh
# Runs the tests of the kernels on an emulated processor with AVX-512, AVX512-BF16 and AMX, for machines without them:
#
#   tools/emulator.sh BOCHS WORK KERNEL [ARGUMENT]...
#
# BOCHS is a checkout of https://github.com/bochs-emu/Bochs (tried: 783b58fd), which is changed and built in place; WORK a
# folder for the image and its output; KERNEL the image of a Linux with AMX (5.16 or later; tried: Debian's
# linux-image-cloud-amd64 6.1); further arguments go to the integration tests, a name for instance. Needs a C++ compiler,
# xorriso, cpio, objcopy, isolinux, the static busybox, bochsbios and vgabios (names of Debian's packages). Takes a few
# minutes to build the emulator and about a quarter of an hour for all tests. It says nothing about speed.
set -eu
bochs=$1/bochs work=$2 kernel=$3
shift 3
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$work"

# Linux gives tiles to a process only where the processor can withhold them (extended feature disable), which Bochs lacks.
# And where Bochs saves tiles, it takes those in use for unused, saves half of their rows, and exchanges rows and bytes;
# where vdpbf16ps reads memory, it takes the wrong address.
if ! grep -q withheld "$bochs/cpu/msr.cc"; then
    sed -i '/^bool BX_CPP_AttrRegparmN(2) BX_CPU_C::rdmsr(/i Bit64u withheld = 0, wanted = 0;' "$bochs/cpu/msr.cc"
    sed -i '/BX_CPU_C::rdmsr(Bit32u index, Bit64u \*msr)$/{n;a \
  if (index == 0x1c4) { *msr = withheld; return true; }\
  if (index == 0x1c5) { *msr = wanted; return true; }
}' "$bochs/cpu/msr.cc"
    sed -i '/BX_CPU_C::wrmsr(Bit32u index, Bit64u val_64)$/{n;a \
  if (index == 0x1c4) { withheld = val_64; handleAvxModeChange(); return true; }\
  if (index == 0x1c5) { wanted = val_64; return true; }
}' "$bochs/cpu/msr.cc"
    sed -i -e '/^void BX_CPU_C::handleAvxModeChange/i extern Bit64u withheld, wanted;' \
        -e 's/^    clear_amx_ok();/    clear_amx_ok();\n  else if (withheld \& BX_XCR0_XTILEDATA_MASK)\n    clear_amx_ok();/' \
        -e '/BX_CPU_C::BxNoAMX/,/BX_ASSERT/s/^  BX_ASSERT(0);/  if (withheld \& BX_XCR0_XTILEDATA_MASK) { wanted |= BX_XCR0_XTILEDATA_MASK; exception(BX_NM_EXCEPTION, 0); }\n&/' \
        "$bochs/cpu/proc_ctrl.cc"
    sed -i -e 's/^      leaf->eax |= (1<<3);$/      leaf->eax |= (1<<3) | (1<<4);/' \
        -e 's/^      leaf->ecx = xsave_restore\[subfunction\].attr;/      leaf->ecx = xsave_restore[subfunction].attr | (subfunction == 18 ? 4 : 0);/' \
        "$bochs/cpu/cpuid.cc"
    sed -i -e 's/tile_use_tracker == 0);/tile_use_tracker != 0);/' -e 's/row < BX_TILE_REGISTERS;/row < BX_TILE_MAX_ROWS;/' \
        -e 's/\(vmm16u(8+n) .*\)\.rows;/\1.bytes_per_row;/' -e 's/\(vmmubyte(48+n) = .*\)\.bytes_per_row;/\1.rows;/' \
        "$bochs/cpu/xsave.cc"
    sed -i '/VDPBF16PS/s/OP_mVdq32/OP_mVdq/' "$bochs/cpu/decoder/ia_opcodes_evex.def"
fi
if [ ! -x "$bochs/bochs" ] || [ "$bochs/cpu/msr.cc" -nt "$bochs/bochs" ]; then
    (cd "$bochs" && ./configure --enable-cpu-level=6 --enable-x86-64 --enable-avx --enable-evex --enable-amx \
        --enable-all-optimizations --enable-long-phy-address --enable-pci --disable-docbook --with-nogui &&
        make -j"$(nproc)" bochs) > "$work/build.log" 2>&1
fi

# A disk of the tests, their libraries and a shell.
rm -rf "$work/root" "$work/disk" "$work/serial.txt"
mkdir -p "$work/root/bin" "$work/root/proc" "$work/root/dev" "$work/root/tmp" "$work/disk/isolinux"
cp /bin/busybox "$work/root/bin/"
(cd "$root" && cargo test --release --workspace --no-run 2>&1) | sed -n 's/.*(\(target[^)]*\)).*/\1/p' |
    grep -E '/(segen_kernels|it)-' > "$work/programs"
for program in $(cat "$work/programs"); do
    # Both this crate and the library have tests called `it`.
    "$root/$program" --list | grep -E '^(cpu::amx|operators::)' > /dev/null || continue
    name=${program##*/}
    objcopy --strip-debug "$root/$program" "$work/root/bin/${name%-*}"
    for library in $(ldd "$root/$program" | grep -o '/[^ ]*'); do
        mkdir -p "$work/root$(dirname "$library")"
        cp -L "$library" "$work/root$library"
    done
done
cat > "$work/root/init" <<EOF
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/segen_kernels --test-threads=1 && /bin/it --test-threads=1 $*
echo "tests ended with \$?"
/bin/busybox sleep 1
/bin/busybox poweroff -f
EOF
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet | gzip -1) > "$work/disk/initrd.gz"
cp "$kernel" "$work/disk/linux"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/disk/isolinux/"
# Bochs repeats string instructions wrongly across pages, so that the kernel is told to do without.
cat > "$work/disk/isolinux/isolinux.cfg" <<EOF
default tests
label tests
 kernel /linux
 append initrd=/initrd.gz console=ttyS0,115200 nokaslr no5lvl mitigations=off lpj=1000000 clearcpuid=erms,fsrm,rep_good
EOF
xorriso -as mkisofs -quiet -o "$work/disk.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot \
    -boot-load-size 4 -boot-info-table "$work/disk"
cat > "$work/bochsrc" <<EOF
cpu: model=sapphire_rapids, ips=300000000
memory: guest=1536, host=1536
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path=$work/disk.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial.txt
display_library: nogui
log: $work/bochs.log
EOF
"$bochs/bochs" -q -f "$work/bochsrc" > "$work/bochs.out" 2>&1 || true
grep -v '^\[' "$work/serial.txt"
grep -q 'tests ended with 0' "$work/serial.txt"
